//! When `--emit` prints lines, and the lines, each given to the program that reads it: systemd's verifier, a real MariaDB server, the
//! schemas of Compose and Kubernetes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use common::{arg, json, program, run, stderr, stdout, succeed};
use fragbench_model::{Allocator, AllocatorKind};
use fragbench_report::{Application, Target, emit};

/// The library of this build that trims at an interval: glibc stays the allocator.
fn trim_library() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fragbench")).parent().unwrap().join("libfragbench_trim.so")
}

fn lines(target: Target) -> String {
    let library = trim_library();
    let environment: BTreeMap<String, String> = [
        ("MALLOC_ARENA_MAX", "2"),
        ("FRAGBENCH_TRIM_EVERY_MS", "1000"),
        ("GLIBC_TUNABLES", "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let change = Allocator {
        name: "glibc".into(),
        kind: AllocatorKind::Glibc,
        library: Some(library.clone()),
        libc: None,
        settings: BTreeMap::new(),
        environment,
        notes: Vec::new(),
    };
    emit(
        target,
        &Application { change: &change, library_dir: library.parent().unwrap(), service: "mariadb", huge_pages: None },
    )
}

/// The commands below `# Verify`, for this process.
fn verify(text: &str, pid: u32) -> Output {
    let commands: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("# Verify"))
        .skip(1)
        .map_while(|line| line.strip_prefix("#   "))
        .filter(|line| !line.starts_with("pid="))
        .collect();
    assert!(commands.len() >= 5, "four variables and a library: {commands:?}");
    Command::new("sh").arg("-ec").arg(format!("pid={pid}\n{}", commands.join("\n"))).output().unwrap()
}

/// A result of two cells and the baseline's copy whose figures are these, whatever was measured: peak, idle memory and
/// throughput of `glibc arena_max=2` relative to glibc.
fn known_result(dir: &Path, memory: f64, blocks: &str) {
    succeed(
        &[
            &["run", "mysql/oltp-read-write", "--allocator", "glibc", "--arena-max", "default,2", "--reps", blocks][..],
            &["--scale", "0.02", "--idle", "1ms", "-o", arg(dir)],
        ]
        .concat(),
    );
    let lines: String = common::runs(dir)
        .into_iter()
        .map(|mut run| {
            let memory = if run["settings"] == json("{}") { 1e8 } else { 1e8 * memory };
            run["metrics"] = serde_json::json!({
                "heap_rss_peak_bytes": memory, "heap_rss_idle_bytes": memory, "ops_per_s": 1e6
            });
            format!("{run}\n")
        })
        .collect();
    std::fs::write(dir.join("runs.jsonl"), lines).unwrap();
}

#[test]
fn a_verdict_is_emitted_as_a_search_is() {
    let dir = tempfile::tempdir().unwrap();
    let emitted = |name: &str, status: i32, more: &[&str]| -> String {
        let result = dir.path().join(name);
        let resume = ["run", "mysql/oltp-read-write", "--resume", arg(&result), "--emit", "systemd"];
        let output = run(&[&resume, more].concat());
        assert_eq!(output.status.code(), Some(status), "{}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    known_result(&dir.path().join("tune"), 0.5, "6");
    let text = emitted("tune", 0, &["--service", "mysqld"]);
    assert!(text.contains("Keep glibc and set MALLOC_ARENA_MAX=2."), "{text}");
    assert!(text.contains("[Service]\nEnvironment=\"MALLOC_ARENA_MAX=2\"\n"), "{text}");
    assert!(text.contains("# Save as /etc/systemd/system/mysqld.service.d/60-fragbench-allocator.conf"), "{text}");
    let file = std::fs::read_to_string(dir.path().join("tune/emitted.txt")).unwrap();
    assert!(text.contains(&file));
    let value = json(&emitted("tune", 0, &["--format", "json", "--service", "mysqld"]));
    assert_eq!((&value["emitted"], &value["verdict"]["kind"]), (&file.into(), &json("\"tune\"")));

    known_result(&dir.path().join("leave"), 1.0, "6");
    let text = emitted("leave", 0, &[]);
    assert!(text.contains("--emit: nothing to apply: what runs now is to be left as it is"), "{text}");
    assert!(!text.contains("Environment=") && !dir.path().join("leave/emitted.txt").exists());
    assert_eq!(json(&emitted("leave", 0, &["--format", "json"]))["emitted"], json("null"));

    known_result(&dir.path().join("few"), 0.5, "1");
    assert!(emitted("few", 1, &[]).contains("--emit: nothing to apply: the runs do not suffice for a recommendation"));
    let out = dir.path().join("command");
    let once = ["compare", "--emit", "env", "--reps", "1", "--allocator", "glibc", "-o", arg(&out), "--", "/bin/true"];
    let output = run(&once);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("--emit: nothing to apply"), "{}", stdout(&output));
}

#[test]
fn memory_that_fell_is_told_from_memory_that_did_not() {
    let text = lines(Target::Systemd);
    let below = |heading: &str| -> String {
        let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
        let commands = lines.map_while(|line| line.strip_prefix("#   ")).filter(|line| !line.starts_with("pid="));
        commands.collect::<Vec<_>>().join("\n")
    };
    let (keep, fell) = (below("# Before"), below("# Verify that memory fell"));
    // A shell's heap is small, this test's is not.
    let me = std::process::id();
    let ballast = vec![1u8; 8 << 20];
    let shell = |first: &str, then: &str| {
        Command::new("sh").arg("-c").arg(format!("pid={first}\n{keep}\npid={then}\n{fell}")).output().unwrap()
    };
    let less = shell(&me.to_string(), "$$");
    assert!(less.status.success() && stdout(&less).contains(" KiB now"), "{}{}", stdout(&less), stderr(&less));
    let more = shell("$$", &me.to_string());
    assert_eq!(more.status.code(), Some(1), "{}", stdout(&more));
    assert_eq!(ballast[4096], 1);
}

#[test]
fn a_shell_has_back_what_it_had() {
    let text = lines(Target::Env);
    let commands: String = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("install"))
        .map(|l| format!("{l}\n"))
        .collect();
    let undo: Vec<&str> =
        text.lines().skip_while(|l| !l.starts_with("# Undo")).filter_map(|l| l.strip_prefix("#   ")).collect();
    let show = "echo \"$GLIBC_TUNABLES|${MALLOC_ARENA_MAX-none}\"";
    let script = format!("{commands}{show}\n{}\n{show}", undo.join("\n"));
    let output = Command::new("sh")
        .args(["-ec", &script])
        .env_remove("MALLOC_ARENA_MAX")
        .env("GLIBC_TUNABLES", "glibc.malloc.check=0")
        .output()
        .unwrap();
    let said = stdout(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        ["glibc.malloc.check=0:glibc.malloc.mxfast=0:glibc.malloc.tcache_count=2|2", "glibc.malloc.check=0|none"],
        "{}\n{script}",
        stderr(&output)
    );
}

#[test]
fn operators_take_fields_that_their_definitions_have() {
    for (target, path) in [
        (Target::MariadbOperator, &["spec:", "  env:", "    - name: MALLOC_ARENA_MAX", "      value: \"2\""][..]),
        (Target::PerconaServer, &["spec:", "  mysql:", "    env:", "      - name: MALLOC_ARENA_MAX"]),
        (
            Target::PerconaXtradb,
            &["stringData:", "  MALLOC_ARENA_MAX: \"2\"", "spec:", "  pxc:", "    envVarsSecret: "],
        ),
    ] {
        let text = lines(target);
        let mut rest = text.lines();
        for step in path {
            assert!(rest.any(|line| line.starts_with(step)), "{step} is missing or out of place:\n{text}");
        }
    }
}

#[test]
fn systemd_takes_the_drop_in() {
    let Some(analyze) = program("systemd-analyze") else { return };
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("mariadb.service");
    std::fs::write(&unit, "[Unit]\nDescription=a server\n[Service]\nType=exec\nExecStart=/bin/true\n").unwrap();
    let drop_in = dir.path().join("mariadb.service.d");
    std::fs::create_dir(&drop_in).unwrap();
    let complaints = |text: &str| {
        std::fs::write(drop_in.join("60-allocator.conf"), text).unwrap();
        stderr(&Command::new(&analyze).args(["verify", arg(&unit)]).output().unwrap())
    };
    let text = lines(Target::Systemd);
    assert_eq!(complaints(&text), "", "{text}");
    // The verifier does read the drop-in.
    assert!(complaints(&text.replace("Environment=", "Enviroment=")).contains("Enviroment"));
}

#[test]
fn compose_and_kubernetes_take_theirs() {
    let (Some(compose), Some(kubernetes)) = (program("check-jsonschema"), program("kubernetes-validate")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines.yaml");
    let check = |validator: &Path, options: &[&str], text: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(validator).args(options).arg(&file).output().unwrap()
    };
    let docker = lines(Target::Docker);
    let of_compose = |text: &str| check(&compose, &["--builtin-schema", "vendor.compose-spec"], text);
    let output = of_compose(&docker);
    assert!(output.status.success(), "{}\n{docker}", stdout(&output));
    assert!(!of_compose(&docker.replace("type: bind", "typ: bind")).status.success(), "a wrong key is found");

    // A patch leaves out what the object has already.
    let patch = lines(Target::Kubernetes);
    let whole = patch.replace(
        "spec:\n  template:\n",
        "spec:\n  serviceName: mariadb\n  selector: {matchLabels: {app: mariadb}}\n  template:\n    metadata: {labels: {app: mariadb}}\n",
    );
    assert_ne!(whole, patch);
    let of_kubernetes = |text: &str| check(&kubernetes, &["--strict"], text);
    let output = of_kubernetes(&whole);
    assert!(output.status.success(), "{}{}\n{whole}", stdout(&output), stderr(&output));
    assert!(!of_kubernetes(&whole.replace("value: \"2\"", "value: 2")).status.success(), "a number is no value");
}

/// A private server; ended when the test is.
struct Server {
    child: Child,
    dir: PathBuf,
}

impl Server {
    fn option_file(dir: &Path, more: &str) -> PathBuf {
        let file = dir.join("my.cnf");
        let here = dir.display();
        let text = format!(
            "{more}\n[mariadbd]\ndatadir={here}/data\nsocket={here}/s\npid-file={here}/pid\nlog-error={here}/error.log\n\
             skip-networking\nuser=root\ninnodb-buffer-pool-size=8M\ninnodb-log-file-size=4M\n"
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Starts it and waits until it answers.
    fn start(command: &mut Command, dir: &Path) -> Self {
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut server = Self { child, dir: dir.to_owned() };
        let end = Instant::now() + Duration::from_secs(60);
        while !server.admin("ping") {
            assert!(server.child.try_wait().unwrap().is_none(), "it ended: {}", server.log());
            assert!(Instant::now() < end, "no answer: {}", server.log());
            std::thread::yield_now();
        }
        server
    }

    fn admin(&self, word: &str) -> bool {
        let socket = format!("--socket={}/s", self.dir.display());
        let admin = ["--no-defaults", &socket, "--user=root", word];
        self.dir.join("pid").exists()
            && Command::new("mariadb-admin").args(admin).output().is_ok_and(|output| output.status.success())
    }

    fn pid(&self) -> u32 {
        std::fs::read_to_string(self.dir.join("pid")).unwrap().trim().parse().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("error.log")).unwrap_or_default()
    }

    fn stop(mut self) {
        assert!(self.admin("shutdown"), "{}", self.log());
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.admin("shutdown");
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn a_real_server_started_with_the_lines_has_what_they_say() {
    let (Some(mariadbd), Some(install), Some(safe)) =
        (program("mariadbd"), program("mariadb-install-db"), program("mariadbd-safe"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let options = Server::option_file(dir.path(), "");
    let defaults = format!("--defaults-file={}", options.display());
    let output = Command::new(install)
        .args([defaults.as_str(), "--auth-root-authentication-method=normal", "--skip-test-db"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stdout(&output));

    // systemd: each Environment= line is one quoted word here.
    let text = lines(Target::Systemd);
    let environment: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("Environment=\"")?.strip_suffix('"')?.split_once('='))
        .collect();
    assert_eq!(environment.len(), 4, "{text}");
    let server =
        Server::start(Command::new(mariadbd).arg(&defaults).env_clear().envs(environment.iter().copied()), dir.path());
    let output = verify(&text, server.pid());
    assert!(output.status.success(), "{}\n{text}", stderr(&output));
    let without = text.replace("MALLOC_ARENA_MAX=2", "MALLOC_ARENA_MAX=3");
    assert!(!verify(&without, server.pid()).status.success(), "the check can fail");
    server.stop();

    // mariadbd-safe: the option group and the variables of the command to start it by.
    let text = lines(Target::Mariadb);
    let group: Vec<&str> =
        text.lines().filter(|line| line.starts_with('[') || line.starts_with("malloc-lib=")).collect();
    assert_eq!(group.len(), 2, "{text}");
    let start =
        text.lines().find_map(|line| line.strip_prefix("#   env ")).unwrap().strip_suffix(" mariadbd-safe").unwrap();
    let options = Server::option_file(dir.path(), &group.join("\n"));
    let server = Server::start(
        Command::new("env").args(start.split(' ')).arg(safe).arg(format!("--defaults-file={}", options.display())),
        dir.path(),
    );
    let output = verify(&text, server.pid());
    assert!(output.status.success(), "{}\n{text}", stderr(&output));
    server.stop();
}
