//! Option files as the servers themselves read them: `judged.txt` holds what each made of each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use fragbench_option_file::{Kind, Server, Value, read, resolve};

/// Names of one variable where a server has several: what it prints it under in `judged.txt`.
const SAME: &[(&str, &str)] = &[
    ("tmp_table_size", "tmp_memory_table_size"),
    ("table_cache", "table_open_cache"),
    ("slave_parallel_workers", "slave_parallel_threads"),
    ("replica_parallel_workers", "slave_parallel_workers"),
    ("replica_max_allowed_packet", "slave_max_allowed_packet"),
    ("slave_pending_jobs_size_max", "replica_pending_jobs_size_max"),
];

fn bytes(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '\\' { rest.next() } else { None }) {
            ('\\', Some('n')) => bytes.push(b'\n'),
            ('\\', Some('r')) => bytes.push(b'\r'),
            ('\\', Some('t')) => bytes.push(b'\t'),
            ('\\', Some('x')) => {
                let digits: String = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            ('\\', Some(other)) => bytes.push(other as u8),
            _ => bytes.push(c as u8),
        }
    }
    bytes
}

/// What is in force other than by default, as `judged.txt` has it.
fn outcome(server: Server, file: &std::path::Path) -> String {
    let Ok(file) = read(file, server) else { return "refused".into() };
    let mut values = BTreeMap::new();
    for option in &file.options {
        match resolve(server, &option.name, option.value.as_deref()) {
            Err(fragbench_option_file::Unmet::Refused(_)) => return "refused".into(),
            Err(_) => {}
            Ok(meaning) => {
                let same = SAME
                    .iter()
                    .find(|(name, other)| *name == meaning.variable.name && server.variable(other).is_some());
                let variable = same.and_then(|(_, other)| server.variable(other)).unwrap_or(meaning.variable);
                if let Some(adjusted) = meaning.adjusted {
                    values.insert(variable.name, (variable, adjusted.value));
                }
            }
        }
    }
    let changed = |(variable, value): &(&fragbench_option_file::Variable, Value)| {
        let (text, default) = match (value, &variable.kind) {
            (Value::Number(number), Kind::Number(n)) => (number.to_string(), n.default.to_string()),
            (Value::Switch(on), Kind::Switch(default) | Kind::File(default)) => {
                ([*on, *default].map(|on| if on { "ON" } else { "OFF" }.to_owned())).into()
            }
            (Value::Word(word), Kind::Words { default, .. }) => ((*word).to_owned(), (*default).to_owned()),
            other => unreachable!("{other:?}"),
        };
        (text != default).then(|| format!("{}={text}", variable.name))
    };
    let mut changed: Vec<String> = values.values().filter_map(changed).collect();
    changed.sort();
    if changed.is_empty() { "-".into() } else { changed.join(" ") }
}

#[test]
fn option_files_are_read_as_each_server_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.cnf");
    let (mut judged, mut wrong) = (0, Vec::new());
    for line in include_str!("judged.txt").lines().filter(|line| !line.starts_with('#')) {
        let [server, text, answer] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let mut answer: Vec<&str> = answer.split(' ').collect();
        answer.sort_unstable();
        std::fs::write(&file, bytes(text)).unwrap();
        let ours = outcome(Server::named(server).unwrap(), &file);
        if ours != answer.join(" ") {
            wrong.push(format!("{line}\n    here: {ours}"));
        }
        judged += 1;
    }
    assert!(judged > 1000, "{judged}");
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}
