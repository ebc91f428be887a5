//! Lines to paste that apply a recommendation: a systemd drop-in, MariaDB's own launcher, Docker Compose, Kubernetes and the operators
//! of MySQL and MariaDB there, a shell; each with how to verify in the running server that it arrived and that memory fell, and how to
//! undo it. Files get a name of their own, so that undoing removes what applying made and nothing else; where a variable of that name
//! may stand already, that is said or its value kept.
//!
//! A library to preload has to lie where the service may read it: units of database servers hide home directories
//! (`ProtectHome=`), containers have a file system of their own, and a library that cannot be read is skipped with a line on
//! standard error only. So it is installed to a directory of the system first, and verifying looks at the mapped files.
//!
//! Sources: systemd.exec(5) `Environment=` and systemd.syntax(7) for quoting, systemd.unit(5) for drop-ins and `%`; mariadbd-safe's
//! `--malloc-lib`; the Compose specification; Kubernetes, "Update API Objects in Place Using kubectl patch", `kubectl set env`; ld.so(8);
//! glibc, elf/dl-tunables.c (of a tunable that stands twice the last counts).

mod container;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fragbench_model::{Allocator, AllocatorKind, HugePages};

/// Service that lines are for where none is named.
pub const SERVICE: &str = "mariadb";
/// Where lines install a library where no directory is named.
pub const LIBRARY_DIR: &str = "/usr/local/lib/fragbench";

/// For whom lines are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A drop-in of a systemd unit.
    Systemd,
    /// `mariadbd-safe`, where no service manager starts the server.
    Mariadb,
    /// An override file of Docker Compose.
    Docker,
    /// A strategic merge patch of a StatefulSet.
    Kubernetes,
    /// A resource of mariadb-operator.
    MariadbOperator,
    /// A resource of Percona's operator for XtraDB Cluster.
    PerconaXtradb,
    /// A resource of Percona's operator for Percona Server.
    PerconaServer,
    /// Lines of a shell.
    Env,
}

/// What is to be applied, and to what.
#[derive(Debug, Clone)]
pub struct Application<'a> {
    /// The change as it was resolved and measured.
    pub change: &'a Allocator,
    /// Directory that the library is installed to.
    pub library_dir: &'a Path,
    /// Name of the service, without `.service`: the unit, the Compose service, the container, the operator's resource.
    pub service: &'a str,
    /// Transparent huge pages that it was measured with, where they were the same in all runs.
    pub huge_pages: Option<HugePages>,
}

impl Application<'_> {
    /// The change in a few words.
    fn what(&self) -> String {
        self.change.label()
    }

    fn library(&self) -> Option<&Path> {
        self.change.library.as_deref()
    }

    /// Where the library lies when it is applied.
    fn installed(&self) -> Option<PathBuf> {
        Some(self.library_dir.join(self.library()?.file_name()?))
    }

    /// All variables.
    fn variables(&self) -> BTreeMap<&str, String> {
        let mut variables: BTreeMap<&str, String> =
            self.change.environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        if let Some(path) = self.installed() {
            let libraries = std::iter::once(path.display().to_string()).chain(variables.remove("LD_PRELOAD"));
            variables.insert("LD_PRELOAD", libraries.collect::<Vec<_>>().join(":"));
        }
        variables
    }

    /// The command that installs the library; none where it lies in its place already.
    fn install(&self) -> Option<String> {
        let (from, to) = (self.library()?, self.installed()?);
        (from != to)
            .then(|| format!("install -D -m 644 {} {}", quoted(&from.to_string_lossy()), quoted(&to.to_string_lossy())))
    }

    /// Variables of which several parties may have a part, joined by colons.
    fn joined(name: &str) -> bool {
        matches!(name, "GLIBC_TUNABLES" | "LD_PRELOAD")
    }

    /// Says that a line replaces what the place has under that name already.
    fn replaces(&self, look: &str) -> Vec<String> {
        let names: Vec<&str> = self.variables().into_keys().collect();
        let joined: Vec<&str> = names.iter().copied().filter(|name| Self::joined(name)).collect();
        let mut lines = vec![format!("# These replace values of the same names: look first with {look}.")];
        if !joined.is_empty() {
            lines.push(format!("# Join another {} with this one by a colon, this one last.", joined.join(" or ")));
        }
        lines
    }

    /// Shell lines that fail unless the process `$pid` has the variables and the library; with `inspects` also unless its calls
    /// of malloc go there, which needs this program beside it.
    fn arrived(&self, inspects: bool) -> Vec<String> {
        let variables = self.variables();
        // Some versions of glibc put zero bytes in place of the colons between tunables: with zeros shown as colons both read
        // the same. What others joined may stand before, between and behind.
        let mut lines = Vec::new();
        for (name, value) in &variables {
            if Self::joined(name) {
                lines.extend(value.split(':').map(|part| {
                    let exact = format!("[=:]{}:", part.replace('.', "[.]").replace('+', "[+]"));
                    format!("tr '\\0' ':' < /proc/$pid/environ | grep -qE {}", quoted(&exact))
                }));
            } else if value.contains(':') {
                let exact = quoted(&format!("{name}={value}:"));
                lines.push(format!("tr '\\0' ':' < /proc/$pid/environ | grep -qF {exact}"));
            } else {
                let exact = quoted(&format!("{name}={value}"));
                lines.push(format!("tr '\\0' '\\n' < /proc/$pid/environ | grep -qxF {exact}"));
            }
        }
        if let Some(path) = self.installed() {
            let path = path.to_string_lossy();
            lines.push(format!("grep -qF {} /proc/$pid/maps", quoted(&path)));
            if inspects && self.change.kind != AllocatorKind::Glibc {
                // A variable that is set and a file that is mapped do not yet take the calls: the linker's lookup decides.
                let object = quoted(&format!("\"object\": {}", double_quoted(&path)));
                lines.push(format!(
                    "fragbench inspect --format json $pid | grep -A1 -F {object} | grep -q '\"takes_malloc\": true'"
                ));
            }
        }
        lines
    }
}

/// Shell lines that keep the server's heap in `$before`, KiB.
fn keep_before(pid: &str) -> Vec<String> {
    vec![pid.to_owned(), "before=$(awk '/^RssAnon:/ { print $2 }' /proc/$pid/status); echo $before".to_owned()]
}

/// Shell lines that fail unless the server's heap is smaller than `$before`.
fn fell(pid: &str) -> Vec<String> {
    let compare =
        "awk -v before=$before '/^RssAnon:/ { print before \" KiB before, \" $2 \" KiB now\"; exit $2 >= before }'";
    vec![pid.to_owned(), format!("{compare} /proc/$pid/status")]
}

/// Notes before and after: what memory was, that the change arrived, that memory fell.
fn verified(lines: &mut Vec<String>, pid: &str, apply: Vec<String>, arrived: Vec<String>) {
    lines.extend(note("Before, under the usual load, in the shell of what follows:", keep_before(pid)));
    lines.extend(note("Apply:", apply));
    lines.extend(note("Verify that it arrived (each line succeeds):", std::iter::once(pid.to_owned()).chain(arrived)));
    lines.extend(note("Verify that memory fell, after as long under the same load:", fell(pid)));
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A text between double quotes as YAML, JSON and systemd read them.
fn double_quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The lines, those that are not to be taken as data in comments.
pub fn emit(target: Target, change: &Application) -> String {
    let lines = match target {
        Target::Systemd => service::systemd(change),
        Target::Mariadb => service::mariadb(change),
        Target::Docker => container::docker(change),
        Target::Kubernetes => container::kubernetes(change),
        Target::MariadbOperator => container::mariadb_operator(change),
        Target::PerconaXtradb => container::percona_xtradb(change),
        Target::PerconaServer => container::percona_server(change),
        Target::Env => service::env(change),
    };
    // Names and values may be of a result that somebody else made: none begins a line. Within double quotes `\n` is what
    // YAML and systemd read as the end of a line.
    let lines: Vec<_> = lines.iter().map(|line| fragbench_model::printable(line)).collect();
    lines.join("\n") + "\n"
}

/// Comment lines: a word, then commands.
fn note(word: &str, commands: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(format!("# {word}")).chain(commands.into_iter().map(|command| format!("#   {command}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Application, LIBRARY_DIR, SERVICE, Target};
    use fragbench_model::{Allocator, AllocatorKind};
    use std::collections::BTreeMap;
    use std::path::Path;

    fn environment() -> BTreeMap<String, String> {
        [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    fn emit(target: Target, (environment, library): &(&BTreeMap<String, String>, Option<&Path>)) -> String {
        let change = Allocator {
            name: "glibc".into(),
            kind: AllocatorKind::Glibc,
            library: library.map(Path::to_owned),
            libc: None,
            settings: BTreeMap::new(),
            environment: (*environment).clone(),
            notes: Vec::new(),
        };
        super::emit(
            target,
            &Application { change: &change, library_dir: Path::new(LIBRARY_DIR), service: SERVICE, huge_pages: None },
        )
    }

    fn change<'a>(
        environment: &'a BTreeMap<String, String>,
        library: Option<&'a Path>,
    ) -> (&'a BTreeMap<String, String>, Option<&'a Path>) {
        (environment, library)
    }

    const TARGETS: [Target; 8] = [
        Target::Systemd,
        Target::Mariadb,
        Target::Docker,
        Target::Kubernetes,
        Target::MariadbOperator,
        Target::PerconaXtradb,
        Target::PerconaServer,
        Target::Env,
    ];

    #[test]
    fn every_target_sets_each_variable_and_says_how_to_verify_and_undo() {
        let environment = environment();
        let library = Path::new("/home/me/target/release/libfragbench_trim.so");
        for target in TARGETS {
            let text = emit(target, &change(&environment, Some(library)));
            for word in ["MALLOC_ARENA_MAX", "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0", "Verify", "Undo:"] {
                assert!(text.contains(word), "{target:?} should say {word}:\n{text}");
            }
            assert!(text.contains("/usr/local/lib/fragbench/libfragbench_trim.so"), "{text}");
            assert!(text.contains("/proc/$pid/environ") && text.contains("/proc/$pid/maps"), "{text}");
            assert!(!emit(target, &change(&environment, None)).contains("maps"), "nothing is mapped");
        }
    }

    #[test]
    fn undoing_takes_back_what_was_applied_and_nothing_else() {
        let environment = environment();
        let library = Path::new("/x/libfragbench_trim.so");
        for target in TARGETS {
            let text = emit(target, &change(&environment, Some(library)));
            for harm in ["rm compose.override.yaml", "rollout undo", "unset GLIBC_TUNABLES", "--type merge"] {
                assert!(!text.contains(harm), "{target:?}: {harm}\n{text}");
            }
            assert!(text.contains("Verify that memory fell"), "{text}");
            for file in text.lines().filter_map(|line| line.strip_prefix("#   rm ")?.split(' ').next()) {
                assert!(file.contains("fragbench"), "{target:?} removes {file}, which may be somebody else's");
            }
        }
    }

    #[test]
    fn a_name_of_somebody_elses_begins_no_line() {
        let environment = BTreeMap::from([("X".to_owned(), "1\nrm -rf /\u{1b}[2J".to_owned())]);
        for target in TARGETS {
            let text = emit(target, &change(&environment, Some(Path::new("/x/lib\nreboot.so"))));
            assert!(!text.lines().any(|line| line.starts_with("rm") || line.starts_with("reboot")), "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn whose_malloc_it_is_is_asked_of_the_process() {
        let library = Path::new("/x/libfragbench_jemalloc.so").to_owned();
        let change = Allocator {
            name: "jemalloc".into(),
            kind: AllocatorKind::Jemalloc,
            library: Some(library),
            libc: None,
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            notes: Vec::new(),
        };
        let huge_pages = Some(fragbench_model::HugePages::Off);
        let application =
            Application { change: &change, library_dir: Path::new(LIBRARY_DIR), service: SERVICE, huge_pages };
        let text = super::emit(Target::Systemd, &application);
        assert!(text.contains("fragbench inspect --format json $pid") && text.contains("takes_malloc"), "{text}");
        assert!(text.contains("#   MemoryTHP=disable"), "{text}");
        assert!(super::emit(Target::PerconaXtradb, &application).contains("mysqlAllocator: jemalloc"));
    }

    #[test]
    fn a_library_in_its_place_is_not_installed() {
        let environment = BTreeMap::new();
        let there = Path::new("/usr/local/lib/fragbench/libx.so");
        assert!(!emit(Target::Systemd, &change(&environment, Some(there))).contains("install -D"));
    }

    #[test]
    fn values_are_quoted_as_each_reader_wants_them() {
        let environment = BTreeMap::from([("X".to_owned(), "50% of \"$HOME\" 'now'".to_owned())]);
        let of = |target| emit(target, &change(&environment, None));
        assert!(of(Target::Systemd).contains(r#"Environment="X=50%% of \"$HOME\" 'now'""#), "{}", of(Target::Systemd));
        assert!(of(Target::Docker).contains(r#"X: "50% of \"$$HOME\" 'now'""#), "{}", of(Target::Docker));
        assert!(of(Target::Env).contains(r#"export 'X=50% of "$HOME" '\''now'\'''"#), "{}", of(Target::Env));
    }

    #[test]
    fn what_else_is_preloaded_comes_after_the_installed_library() {
        let environment = BTreeMap::from([("LD_PRELOAD".to_owned(), "/lib/libc.so.6".to_owned())]);
        let library = Path::new("/usr/local/lib/fragbench/libx.so");
        let both = r#"Environment="LD_PRELOAD=/usr/local/lib/fragbench/libx.so:/lib/libc.so.6""#;
        assert!(emit(Target::Systemd, &change(&environment, Some(library))).contains(both));
        let alone = r#"Environment="LD_PRELOAD=/lib/libc.so.6""#;
        assert!(emit(Target::Systemd, &change(&environment, None)).contains(alone));
    }
}
