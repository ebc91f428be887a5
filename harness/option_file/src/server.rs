//! The servers whose options are known, and the table of each: names, kinds, defaults, bounds.
//!
//! The tables (`servers/*.txt`) are written from the servers by `harness/validate/option_tables.py`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a server descends from: the two differ in how they read option files, and in how their memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Flavor {
    /// MariaDB.
    #[default]
    Mariadb,
    /// MySQL.
    Mysql,
}

/// A server by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Server {
    /// MariaDB 10.11, what `mariadb` means.
    #[default]
    Mariadb10_11,
    /// MariaDB 11.8.
    Mariadb11_8,
    /// MySQL 9.7, what `mysql` means.
    Mysql9_7,
}

impl Server {
    /// All of them.
    pub const ALL: [Server; 3] = [Server::Mariadb10_11, Server::Mariadb11_8, Server::Mysql9_7];

    /// Names they go by: `mariadb` and `mysql` alone are one version each.
    pub const NAMES: [(&'static str, Server); 5] = [
        ("mariadb", Server::Mariadb10_11),
        ("mysql", Server::Mysql9_7),
        ("mariadb-10.11", Server::Mariadb10_11),
        ("mariadb-11.8", Server::Mariadb11_8),
        ("mysql-9.7", Server::Mysql9_7),
    ];

    /// The server of that name.
    pub fn named(name: &str) -> Option<Server> {
        Server::NAMES.iter().find(|(known, _)| *known == name).map(|(_, server)| *server)
    }

    /// What it descends from.
    pub fn flavor(self) -> Flavor {
        match self {
            Server::Mariadb10_11 | Server::Mariadb11_8 => Flavor::Mariadb,
            Server::Mysql9_7 => Flavor::Mysql,
        }
    }

    /// Name with its version.
    pub fn name(self) -> &'static str {
        match self {
            Server::Mariadb10_11 => "mariadb-10.11",
            Server::Mariadb11_8 => "mariadb-11.8",
            Server::Mysql9_7 => "mysql-9.7",
        }
    }

    /// Groups of an option file that it reads, as its `--help` lists them.
    fn groups(self) -> &'static [&'static str] {
        match self {
            Server::Mariadb10_11 => &[
                "mysqld",
                "server",
                "mysqld-10.11",
                "mariadb",
                "mariadb-10.11",
                "mariadbd",
                "mariadbd-10.11",
                "client-server",
                "galera",
            ],
            Server::Mariadb11_8 => &[
                "mysqld",
                "server",
                "mysqld-11.8",
                "mariadb",
                "mariadb-11.8",
                "mariadb-11",
                "mariadbd",
                "mariadbd-11.8",
                "mariadbd-11",
                "client-server",
                "galera",
            ],
            Server::Mysql9_7 => &["mysqld", "server", "mysqld-9.7"],
        }
    }

    /// Whether it reads that group, in either case.
    pub fn reads_group(self, group: &str) -> bool {
        self.groups().iter().any(|known| known.eq_ignore_ascii_case(group))
    }

    /// Every option it knows, by name with underscores.
    pub fn variables(self) -> &'static BTreeMap<&'static str, Variable> {
        let index = Server::ALL.iter().position(|server| *server == self).unwrap_or_default();
        &TABLES[index]
    }

    /// The option of exactly that name, with underscores.
    pub fn variable(self, name: &str) -> Option<&'static Variable> {
        self.variables().get(name)
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a group holds a server's options, but of another version than `server`.
pub(crate) fn other_version(group: &str, server: Server) -> bool {
    !server.reads_group(group)
        && ["mysqld-", "mariadb-", "mariadbd-"].iter().any(|prefix| {
            let version = group.strip_prefix(prefix).unwrap_or_default();
            !version.is_empty() && version.chars().all(|c| c.is_ascii_digit() || c == '.')
        })
}

/// How a number is read and kept in bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Without an option, in the variable's unit: mostly bytes.
    pub default: u64,
    /// Smaller ones become this.
    pub least: u64,
    /// Greater ones become this.
    pub most: u64,
    /// It is lowered to a multiple of this.
    pub multiple: u64,
    /// Whether the server reads it as a number that may be negative.
    pub signed: bool,
}

/// What an option takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number(Number),
    /// On or off.
    Switch(bool),
    /// A file's name: any value turns it on.
    File(bool),
    /// One of some words.
    Words {
        /// Without an option.
        default: &'static str,
        /// Those it takes.
        words: Vec<&'static str>,
    },
    /// Turns a plugin on or off: a begin of its name is its own only where no variable begins so.
    Plugin,
    /// Not of the models: its values are not looked at.
    Other,
}

/// An option of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name, with underscores.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
}

static TABLES: LazyLock<[BTreeMap<&'static str, Variable>; 3]> = LazyLock::new(|| {
    [
        include_str!("../servers/mariadb-10.11.txt"),
        include_str!("../servers/mariadb-11.8.txt"),
        include_str!("../servers/mysql-9.7.txt"),
    ]
    .map(|text| lines(text).map(parse).map(|variable| (variable.name, variable)).collect())
});

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

/// A line of a table; they are ours, a test reads them all.
fn parse(line: &'static str) -> Variable {
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let number = |word: &str| word.parse().unwrap_or_else(|_| unreachable!("not a number in {line:?}"));
    let (name, kind) = (next(), next());
    let kind = match kind {
        "number" => Kind::Number(Number {
            default: number(next()),
            least: number(next()),
            most: number(next()),
            multiple: number(next()),
            signed: next() == "signed",
        }),
        "switch" => Kind::Switch(next() == "ON"),
        "file" => Kind::File(next() == "ON"),
        "words" => Kind::Words { default: next(), words: next().split(',').collect() },
        "plugin" => Kind::Plugin,
        _ => Kind::Other,
    };
    Variable { name, kind }
}

/// Begins of plugins' options, and options of other versions.
static OTHERS: LazyLock<(Vec<&'static str>, Vec<&'static str>)> = LazyLock::new(|| {
    let (plugins, names): (Vec<_>, Vec<_>) =
        lines(include_str!("../servers/others.txt")).partition(|line| line.ends_with('*'));
    (plugins.into_iter().map(|begin| begin.trim_end_matches('*')).collect(), names)
});

/// Whether `name` (with underscores) is an option of another version, or of a plugin.
pub(crate) fn is_of_others(name: &str) -> bool {
    OTHERS.1.contains(&name)
}

/// Whether `name` begins as a plugin's options do.
pub(crate) fn is_of_a_plugin(name: &str) -> bool {
    OTHERS.0.iter().any(|begin| name.starts_with(begin))
}

/// The option of `server` whose name is nearest to `name`, by `distance`, when it is no more than two steps off, or one
/// letter in six.
pub fn nearest(server: Server, name: &str, distance: impl Fn(&str, &str) -> usize) -> Option<&'static str> {
    let best = server.variables().keys().map(|other| (distance(name, other), *other)).min();
    best.filter(|(steps, other)| *steps <= 2.max(other.len() / 6)).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_read_and_every_default_lies_in_its_bounds() {
        for server in Server::ALL {
            assert!(server.variables().len() > 700, "{server}");
            for variable in server.variables().values() {
                if let Kind::Number(n) = variable.kind {
                    let at_least = |value: u64| value >= n.least && value <= n.most && value.is_multiple_of(n.multiple);
                    assert!(at_least(n.default) || n.default == n.least, "{server} {variable:?}");
                }
            }
        }
    }

    #[test]
    fn groups_of_other_versions_are_told_from_those_of_other_programs() {
        for (group, server, other) in [
            ("mysqld-8.0", Server::Mysql9_7, true),
            ("mariadb-10.6", Server::Mariadb10_11, true),
            ("mariadb-11", Server::Mariadb11_8, false),
            ("mariadb-11", Server::Mariadb10_11, true),
            ("mysqld_safe", Server::Mysql9_7, false),
            ("mariadb-dump", Server::Mariadb10_11, false),
        ] {
            assert_eq!(other_version(group, server), other, "{group} {server}");
        }
    }
}
