//! Files that include others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;

fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Full names: the working directory is the test runner's.
        std::fs::write(path, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
    }
    dir
}

fn short(read: &OptionFile) -> Vec<String> {
    let line = |o: &FileOption| {
        let file = o.origin.file.file_name().unwrap().to_string_lossy();
        format!("{}={} {file}:{}", o.name, o.value.as_deref().unwrap_or("-"), o.origin.line)
    };
    read.options.iter().map(line).collect()
}

#[test]
fn included_files_stand_where_they_are_included_and_only_the_servers_groups_count() {
    let dir = written(&[
        ("my.cnf", "[client]\nport=1\n[MYSQLD]\na=1\n!include DIR/more/one.cnf\n!includedir DIR/conf.d\na=5\n"),
        ("more/one.cnf", "[mysqld]\na=2\n!include DIR/more/two.cnf\n"),
        ("more/two.cnf", "[server]\na=3\n"),
        ("conf.d/20.cnf", "[mysqldump]\nquick\n[mysqld]\nb=2"),
        ("conf.d/10.cnf", "[mysqld]\nb=1"),
        ("conf.d/README", "not an option file"),
    ]);
    let read = read(&dir.path().join("my.cnf"), Server::Mariadb10_11).unwrap();
    assert_eq!(
        short(&read),
        ["a=1 my.cnf:4", "a=2 one.cnf:2", "a=3 two.cnf:2", "b=1 10.cnf:2", "b=2 20.cnf:4", "a=5 my.cnf:7"]
    );
    assert!(read.notes.is_empty(), "{:?}", read.notes);
}

#[test]
fn what_is_wrong_in_an_included_file_ends_that_file_alone() {
    for (name, text, kept, said) in [
        ("early", "x=1\n[mysqld]\nb=1\n", vec!["a=1 my.cnf:3"], "early.cnf:1: `x` stands before any group"),
        (
            "bracket",
            "[mysqld]\nb=1\n[mysqld\nc=1\n",
            vec!["b=1 bracket.cnf:2", "a=1 my.cnf:3"],
            "bracket.cnf:3: the group",
        ),
        ("gone", "", vec!["a=1 my.cnf:3"], "my.cnf:2: !include "),
    ] {
        let dir = written(&[("my.cnf", &format!("[mysqld]\n!include DIR/{name}.cnf\na=1\n"))]);
        if name != "gone" {
            std::fs::write(dir.path().join(format!("{name}.cnf")), text).unwrap();
        }
        let read = read(&dir.path().join("my.cnf"), Server::Mysql9_7).unwrap();
        assert_eq!(short(&read), kept, "{name}");
        assert!(read.notes.len() == 1 && read.notes[0].contains(said), "{:?}", read.notes);
    }
}

#[test]
fn a_file_that_includes_itself_is_read_eleven_times_as_the_servers_do() {
    let dir = written(&[("my.cnf", "[mysqld]\na=1\n!include DIR/my.cnf\nb=2\n")]);
    let read = read(&dir.path().join("my.cnf"), Server::Mariadb11_8).unwrap();
    assert_eq!(read.options.len(), 22);
    assert_eq!(read.options.last().unwrap().name, "b");
    assert!(read.notes.len() == 1 && read.notes[0].contains("my.cnf:3: "), "{:?}", read.notes);
}

#[test]
fn what_stops_a_server_stops_the_reading() {
    for (text, said) in [
        ("sort_buffer_size=1M\n[mysqld]\n", "my.cnf:1: `sort_buffer_size` stands before any group"),
        ("\u{feff}[mysqld]\n", "byte order mark"),
        ("[client\n[mysqld]\n", "my.cnf:1: the group [client has no closing bracket"),
        ("[mysqld]\n!includedir DIR/nowhere\n", "my.cnf:2: !includedir "),
        ("[mysqld]\n!include\n", "my.cnf:2: !include names nothing"),
    ] {
        let dir = written(&[("my.cnf", text)]);
        let wrong = read(&dir.path().join("my.cnf"), Server::Mysql9_7).unwrap_err();
        assert!(wrong.contains(said), "{wrong}");
    }
    assert!(read(Path::new("/nowhere/my.cnf"), Server::Mysql9_7).unwrap_err().contains("/nowhere/my.cnf"));
}

#[test]
fn groups_of_other_versions_are_named_once_and_the_launchers_are_kept_apart() {
    let text = "[mysqld-8.0]\na=1\n[mysqld-8.0]\n[mysqld_safe]\nmalloc-lib=x\n[mysqld-9.7]\nb=1\n";
    let dir = written(&[("my.cnf", text)]);
    let read = read(&dir.path().join("my.cnf"), Server::Mysql9_7).unwrap();
    assert_eq!(short(&read), ["b=1 my.cnf:7"]);
    assert_eq!((read.launcher.len(), read.launcher[0].name.as_str()), (1, "malloc-lib"));
    assert!(read.notes.len() == 1 && read.notes[0].contains("[mysqld-8.0]"), "{:?}", read.notes);
}
