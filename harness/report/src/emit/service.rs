//! Lines for what runs on the machine itself: systemd, MariaDB's launcher, a shell.

use fragbench_model::HugePages;

use super::{Application, double_quoted, note, quoted, verified};

/// Its own name among the drop-ins and option files.
const NAME: &str = "60-fragbench-allocator";

pub(super) fn systemd(change: &Application) -> Vec<String> {
    let unit = format!("{}.service", change.service);
    let file = format!("/etc/systemd/system/{unit}.d/{NAME}.conf");
    let mut lines = vec![format!("# {}", change.what()), format!("# Save as {file}")];
    lines.extend(change.replaces(&format!("systemctl show --property Environment {unit}")));
    lines.push("[Service]".to_owned());
    // A percent sign begins a specifier.
    lines.extend(
        change.variables().iter().map(|(name, value)| {
            format!("Environment={}", double_quoted(&format!("{name}={value}")).replace('%', "%%"))
        }),
    );
    if let Some(pages) = change.huge_pages {
        let word = match pages {
            HugePages::Off => "disable",
            HugePages::Madvise => "madvise",
            HugePages::On => "system",
        };
        lines.push(format!(
            "# It was measured with transparent huge pages {}; systemd from 260 on gives it the same by",
            pages.name()
        ));
        lines.push(format!("#   MemoryTHP={word}"));
    }
    let restart = format!("systemctl daemon-reload && systemctl restart {unit}");
    lines.push(String::new());
    let pid = format!("pid=$(systemctl show --property MainPID --value {unit})");
    verified(&mut lines, &pid, change.install().into_iter().chain([restart.clone()]).collect(), change.arrived(true));
    lines.extend(note("Undo:", [format!("rm {file} && {restart}")]));
    lines
}

pub(super) fn mariadb(change: &Application) -> Vec<String> {
    let mut lines = vec![
        format!("# {}", change.what()),
        "# For servers that mariadbd-safe (mysqld_safe) starts. Under systemd it is not asked: take --emit systemd there.".to_owned(),
    ];
    let file = format!("/etc/mysql/mariadb.conf.d/{NAME}.cnf");
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
        lines.extend(change.replaces("env"));
    }
    apply.push(start);
    verified(&mut lines, "pid=$(pidof mariadbd)", apply, change.arrived(true));
    let undo = if change.library().is_some() { vec![format!("rm {file}")] } else { Vec::new() };
    lines.extend(note("Undo:", undo.into_iter().chain(["start mariadbd-safe without the variables".to_owned()])));
    lines
}

pub(super) fn env(change: &Application) -> Vec<String> {
    let mut lines = vec![format!("# {}", change.what())];
    lines.extend(change.install());
    let variables = change.variables();
    // What the shell had before is kept: joined where names share a variable, and given back by the undoing.
    lines.extend(
        variables.keys().map(|name| format!("fragbench_had_{name}=${{{name}+set}} fragbench_was_{name}=${{{name}-}}")),
    );
    lines.extend(variables.iter().map(|(name, value)| match *name {
        "GLIBC_TUNABLES" => format!("export {name}=\"${{{name}:+${name}:}}\"{}", quoted(value)),
        "LD_PRELOAD" => format!("export {name}={}\"${{{name}:+:${name}}}\"", quoted(value)),
        _ => format!("export {}", quoted(&format!("{name}={value}"))),
    }));
    let start = vec!["start the server from this shell".to_owned()];
    verified(&mut lines, "pid=$(pidof SERVER)", start, change.arrived(true));
    let undo = variables.keys().map(|name| {
        format!("if [ $fragbench_had_{name} ]; then export {name}=\"$fragbench_was_{name}\"; else unset -v {name}; fi")
    });
    lines.extend(note("Undo:", undo));
    lines
}
