//! Lines to paste that apply a recommendation: a systemd drop-in, MariaDB's own launcher, Docker Compose, Kubernetes, a
//! shell; each with how to verify in the running server that it took effect and how to undo it.
//!
//! A library to preload has to lie where the service may read it: units of database servers hide home directories
//! (`ProtectHome=`), containers have a file system of their own, and a library that cannot be read is skipped with a line on
//! standard error only. So it is installed to a directory of the system first, and verifying looks at the mapped files.
//!
//! Sources: systemd.exec(5) `Environment=` and systemd.syntax(7) for quoting, systemd.unit(5) for drop-ins and `%`; mariadbd-safe's
//! `--malloc-lib`; the Compose specification; Kubernetes, "Update API Objects in Place Using kubectl patch"; ld.so(8).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fragbench_model::Allocator;

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
    /// Name of the service, without `.service`: the unit, the Compose service, the container.
    pub service: &'a str,
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

    /// Shell lines that fail unless the process `$pid` has the variables and the library.
    fn verify(&self) -> Vec<String> {
        let variables = self.variables();
        // Some versions of glibc put zero bytes in place of the colons between tunables: with zeros shown as colons both read
        // the same.
        let environment = variables.iter().map(|(name, value)| match value.contains(':') {
            true => format!("tr '\\0' ':' < /proc/$pid/environ | grep -qF {}", quoted(&format!("{name}={value}:"))),
            false => format!("tr '\\0' '\\n' < /proc/$pid/environ | grep -qxF {}", quoted(&format!("{name}={value}"))),
        });
        let mapped =
            self.installed().map(|path| format!("grep -qF {} /proc/$pid/maps", quoted(&path.to_string_lossy())));
        environment.chain(mapped).collect()
    }
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
        Target::Systemd => systemd(change),
        Target::Mariadb => mariadb(change),
        Target::Docker => docker(change),
        Target::Kubernetes => kubernetes(change),
        Target::Env => env(change),
    };
    lines.join("\n") + "\n"
}

/// Comment lines: a word, then commands.
fn note(word: &str, commands: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(format!("# {word}")).chain(commands.into_iter().map(|command| format!("#   {command}"))).collect()
}

fn systemd(change: &Application) -> Vec<String> {
    let unit = format!("{}.service", change.service);
    let file = format!("/etc/systemd/system/{unit}.d/60-allocator.conf");
    let mut lines = vec![format!("# {}", change.what()), format!("# Save as {file}")];
    lines.push("[Service]".to_owned());
    // A percent sign begins a specifier.
    lines.extend(
        change.variables().iter().map(|(name, value)| {
            format!("Environment={}", double_quoted(&format!("{name}={value}")).replace('%', "%%"))
        }),
    );
    let restart = format!("systemctl daemon-reload && systemctl restart {unit}");
    lines.push(String::new());
    lines.extend(note("Apply:", change.install().into_iter().chain([restart.clone()])));
    let pid = format!("pid=$(systemctl show --property MainPID --value {unit})");
    lines.extend(note("Verify (each line succeeds):", std::iter::once(pid).chain(change.verify())));
    lines.extend(note("Undo:", [format!("rm {file} && {restart}")]));
    lines
}

fn mariadb(change: &Application) -> Vec<String> {
    let mut lines = vec![
        format!("# {}", change.what()),
        "# For servers that mariadbd-safe (mysqld_safe) starts. Under systemd it is not asked: take --emit systemd there.".to_owned(),
    ];
    let file = "/etc/mysql/mariadb.conf.d/60-allocator.cnf";
    if let Some(library) = change.installed() {
        lines.push(format!("# Save as {file}"));
        lines.push("[mariadbd-safe]".to_owned());
        lines.push(format!("malloc-lib={}", library.display()));
    }
    let words: Vec<String> =
        change.change.environment.iter().map(|(name, value)| quoted(&format!("{name}={value}"))).collect();
    let start =
        if words.is_empty() { "mariadbd-safe".to_owned() } else { format!("env {} mariadbd-safe", words.join(" ")) };
    let mut apply: Vec<String> = change.install().into_iter().collect();
    if !words.is_empty() {
        lines.push(
            "# Variables cannot stand in an option file; mariadbd-safe hands on those it is started with.".to_owned(),
        );
    }
    apply.push(start);
    lines.extend(note("Apply:", apply));
    let pid = "pid=$(pidof mariadbd)".to_owned();
    lines.extend(note("Verify (each line succeeds):", std::iter::once(pid).chain(change.verify())));
    let undo = if change.library().is_some() { format!("rm {file}; ") } else { String::new() };
    lines.extend(note("Undo:", [format!("{undo}start mariadbd-safe without the variables")]));
    lines
}

fn docker(change: &Application) -> Vec<String> {
    let service = change.service;
    let mut lines =
        vec![format!("# {}", change.what()), "# Save as compose.override.yaml beside compose.yaml".to_owned()];
    lines.extend(["services:".to_owned(), format!("  {service}:"), "    environment:".to_owned()]);
    // A dollar sign begins an interpolation.
    lines.extend(
        change
            .variables()
            .iter()
            .map(|(name, value)| format!("      {name}: {}", double_quoted(value).replace('$', "$$"))),
    );
    if let (Some(from), Some(to)) = (change.library(), change.installed()) {
        lines.extend([
            "    volumes:".to_owned(),
            "      - type: bind".to_owned(),
            format!("        source: {}", double_quoted(&from.to_string_lossy()).replace('$', "$$")),
            format!("        target: {}", double_quoted(&to.to_string_lossy()).replace('$', "$$")),
            "        read_only: true".to_owned(),
            "# The image needs a glibc at least as new as the one the library was built against; images on musl cannot use it."
                .to_owned(),
        ]);
    }
    lines.extend(note("Apply:", [format!("docker compose up -d {service}")]));
    let pid = format!("pid=$(docker inspect --format '{{{{.State.Pid}}}}' $(docker compose ps -q {service}))");
    lines.extend(note("Verify (each line succeeds):", std::iter::once(pid).chain(change.verify())));
    lines.extend(note("Undo:", [format!("rm compose.override.yaml && docker compose up -d {service}")]));
    lines
}

fn kubernetes(change: &Application) -> Vec<String> {
    let service = change.service;
    let mut lines = vec![
        format!("# {}", change.what()),
        "# Save as allocator.yaml; StatefulSet and container are both called as the service.".to_owned(),
    ];
    lines.extend(
        ["apiVersion: apps/v1", "kind: StatefulSet", "metadata:"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("  name: {service}")]),
    );
    lines.extend(["spec:", "  template:", "    spec:", "      containers:"].map(str::to_owned));
    lines.extend([format!("        - name: {service}"), "          env:".to_owned()]);
    for (name, value) in change.variables() {
        // $(NAME) is replaced by another variable, $$ is one dollar sign.
        lines.extend([
            format!("            - name: {name}"),
            format!("              value: {}", double_quoted(&value).replace('$', "$$")),
        ]);
    }
    if let Some(path) = change.installed() {
        lines.push(format!("# The image must hold the library: COPY it to {} in its Dockerfile.", path.display()));
    }
    lines.extend(note("Apply:", [format!("kubectl patch statefulset {service} --patch-file allocator.yaml")]));
    let pid = format!("kubectl exec {service}-0 -c {service} -i -- sh -e <<'END'");
    let script = std::iter::once("pid=1".to_owned()).chain(change.verify()).chain(["END".to_owned()]);
    lines.extend(note("Verify (each line succeeds):", std::iter::once(pid).chain(script)));
    lines.extend(note("Undo:", [format!("kubectl rollout undo statefulset {service}")]));
    lines
}

fn env(change: &Application) -> Vec<String> {
    let mut lines = vec![format!("# {}", change.what())];
    lines.extend(change.install());
    lines.extend(
        change.variables().iter().map(|(name, value)| format!("export {}", quoted(&format!("{name}={value}")))),
    );
    lines.extend(note("Verify (pid: the server's; each line succeeds):", change.verify()));
    let names: Vec<&str> = change.variables().into_keys().collect();
    lines.extend(note("Undo:", [format!("unset {}", names.join(" "))]));
    lines
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
        super::emit(target, &Application { change: &change, library_dir: Path::new(LIBRARY_DIR), service: SERVICE })
    }

    fn change<'a>(
        environment: &'a BTreeMap<String, String>,
        library: Option<&'a Path>,
    ) -> (&'a BTreeMap<String, String>, Option<&'a Path>) {
        (environment, library)
    }

    const TARGETS: [Target; 5] = [Target::Systemd, Target::Mariadb, Target::Docker, Target::Kubernetes, Target::Env];

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
