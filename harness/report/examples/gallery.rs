//! Renders a made-up result into the directory given, to be looked at.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "gallery".into()));
    let data = fixture::result();
    let mut files = fragbench_report::render(&data)?;
    files.extend(fragbench_report::render_trace(&fixture::trace_stat(), "mariadb-oltp")?);
    for (path, bytes) in files {
        let path = out.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&out))?;
        std::fs::write(path, bytes)?;
    }
    println!("{}", fragbench_report::result_tables(&data.summary, &data.manifest.plan, &data.records, None, false));
    println!("{}", fragbench_decide::finding(&data.summary));
    Ok(())
}
