//! What the table of variables says, and what is read by it.

use super::*;
use fragbench_model::WorkerErrorKind;
use std::collections::BTreeSet;

const LOAD: &[Load] = &[("tables", "4", "tables")];

fn read(given: &[(&str, &str)]) -> Result<(Sysvars, Parameters), WorkerError> {
    let parameters = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sysvars::read(&Request { parameters, threads: None }, LOAD)
}

#[test]
fn defaults_are_those_of_the_flavor_and_given_values_replace_them() {
    let (mariadb, load) = read(&[]).unwrap();
    assert_eq!((mariadb.query_prealloc_size, mariadb.sort_buffer_size), (32768, 2 << 20));
    assert_eq!((mariadb.log_bin, mariadb.internal_tmp_mem_storage_engine), (false, TmpEngine::Memory));
    assert_eq!(load.size("tables", 1, 10), Ok(4));
    let (mysql, _) = read(&[("flavor", "mysql"), ("max-heap-table-size", "1M")]).unwrap();
    assert_eq!((mysql.query_prealloc_size, mysql.sort_buffer_size), (8192, 256 << 10));
    assert_eq!((mysql.log_bin, mysql.internal_tmp_mem_storage_engine), (true, TmpEngine::TempTable));
    // A TempTable is not bound by max_heap_table_size.
    assert_eq!(mysql.tmp_table_limit(), 16 << 20);
    let (vars, _) = read(&[("max-heap-table-size", "1M"), ("Sort_Buffer_Size", "64k")]).unwrap();
    assert_eq!((vars.tmp_table_limit(), vars.sort_buffer_size), (1 << 20, 64 << 10));
}

/// As the servers print them with these options.
#[test]
fn defaults_that_follow_other_variables_are_the_servers() {
    for (flavor, given, threads, definitions) in [
        ("mariadb-10.11", ("max_connections", "20"), 20, 400),
        ("mariadb-11.8", ("max_connections", "2000"), 256, 400),
        ("mariadb", ("thread_cache_size", "400"), 151, 400),
        ("mysql-9.7", ("max_connections", "20"), 8, 2000),
        ("mysql", ("max_connections", "2000"), 28, 2000),
        ("mysql", ("table_open_cache", "1000"), 9, 900),
        ("mysql", ("thread_cache_size", "400"), 400, 2000),
    ] {
        let (vars, _) = read(&[("flavor", flavor), given]).unwrap();
        assert_eq!((vars.thread_cache_size, vars.table_definition_cache), (threads, definitions), "{flavor} {given:?}");
    }
}

#[test]
fn max_connections_bounds_the_sessions() {
    let sessions = |threads, limit: &str| {
        let parameters = [("max_connections".to_owned(), limit.to_owned())].into();
        let request = Request { parameters, threads };
        Sysvars::read(&request, LOAD).unwrap().0.sessions(&request, 64)
    };
    assert_eq!((sessions(None, "151"), sessions(None, "10"), sessions(Some(151), "151")), (Ok(64), Ok(10), Ok(151)));
    let text = sessions(Some(200), "151").unwrap_err().text;
    assert!(text.contains("200 sessions") && text.contains("max_connections=151"), "{text}");
}

#[test]
fn aliases_are_one_variable() {
    let (vars, _) = read(&[("replica-parallel-workers", "8"), ("tmp_table_size", "4M")]).unwrap();
    assert_eq!((vars.slave_parallel_threads, vars.tmp_memory_table_size), (8, 4 << 20));
    assert!(read(&[("slave_parallel_workers", "8"), ("replica_parallel_workers", "8")]).is_ok());
    let text = read(&[("slave_parallel_workers", "8"), ("replica_parallel_workers", "4")]).unwrap_err().text;
    assert!(text.contains("slave_parallel_workers=8") && text.contains("replica_parallel_workers=4"), "{text}");
}

#[test]
fn switches_take_what_the_server_takes() {
    for (text, on) in [("ON", true), ("true", true), ("1", true), ("", true), ("Off", false), ("0", false)] {
        assert_eq!(read(&[("performance-schema", text)]).unwrap().0.performance_schema, on, "{text}");
    }
    assert!(read(&[("log_bin", "/var/log/mysql/mysql-bin.log")]).unwrap().0.log_bin);
    assert!(read(&[("performance_schema", "maybe")]).is_err());
}

#[test]
fn what_is_wrong_is_named_as_it_was_written_with_what_would_be_right() {
    for (name, value, parts) in [
        ("net-buffer-length", "2M", ["net-buffer-length=2M", "1024 to 1048576"]),
        ("replica_parallel_workers", "many", ["replica_parallel_workers=many", "0 to 16383"]),
        ("performance_schema", "maybe", ["performance_schema=maybe", "ON or OFF"]),
        ("internal_tmp_mem_storage_engine", "TmpTable", ["TmpTable", "TempTable"]),
        ("sort_bufer_size", "1M", ["sort_bufer_size", "sort_buffer_size"]),
        ("flavor", "maria", ["flavor=maria", "mariadb"]),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert_eq!(error.kind, WorkerErrorKind::BadSpec);
        assert!(parts.iter().all(|part| error.text.contains(part)), "{}", error.text);
    }
}

#[test]
fn the_table_tells_each_name_once_and_both_defaults() {
    let mut names = BTreeSet::new();
    for v in VARIABLES {
        assert!(std::iter::once(&v.name).chain(v.aliases).all(|name| names.insert(*name)), "{}", v.name);
        for server in Server::ALL {
            assert!(v.read(server, v.name, &v.default(server)).is_ok(), "{} under {server}", v.name);
        }
    }
    let all = Sysvars::parameters(LOAD);
    let sort = all.iter().find(|p| p.name == "sort_buffer_size").unwrap();
    assert_eq!(sort.default, "2M");
    assert!(sort.meaning.ends_with("(mysql: 256K)"), "{}", sort.meaning);
    let workers = all.iter().find(|p| p.name == "slave_parallel_threads").unwrap();
    assert!(workers.aliases.contains(&"replica_parallel_workers".to_owned()));
    assert!(all.iter().all(|p| p.name == "tables" || !p.range.is_empty()));
}
