-- Every cell's memory and throughput relative to glibc as it comes, for DuckDB, from the tables that
-- `fragbench report DIR --format parquet` writes:
--
--   cd DIR && duckdb < ratios.sql
--
-- Ratios are formed within a block, as fragbench forms them: both runs are of one machine and one stretch of time.
SELECT
    run.workload,
    run.cell,
    count(*) AS blocks,
    median(run.heap_rss_peak_bytes / base.heap_rss_peak_bytes) AS memory_ratio,
    median(run.ops_per_s / base.ops_per_s) AS throughput_ratio
FROM 'runs.parquet' AS run
JOIN 'runs.parquet' AS base USING (workload, repetition)
WHERE base.cell = 'glibc' AND NOT base.aa AND base.status = 'ok' AND NOT run.aa AND run.status = 'ok'
GROUP BY run.workload, run.cell
ORDER BY run.workload, memory_ratio;
