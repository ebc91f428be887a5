//! Which server is modelled: the two differ in defaults and in how their pools grow.

/// A family of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Flavor {
    /// MariaDB 10.11: measured on a real server where a file says so.
    #[default]
    Mariadb,
    /// MySQL 8.4: follows the published source, not measured.
    Mysql,
}

impl Flavor {
    /// Both, with the names they go by as a value of the parameter `flavor`.
    pub const ALL: [(&'static str, Flavor); 2] = [("mariadb", Flavor::Mariadb), ("mysql", Flavor::Mysql)];
}
