//! A model of a MySQL or MariaDB server's memory.
