//! What sets nothing, and why; what is set is judged in `tests/judged.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;

#[test]
fn what_sets_nothing_says_why() {
    for (server, name, why) in [
        (Server::Mysql9_7, "Sort_Buffer_Size", Unmet::Written("sort_buffer_size")),
        (Server::Mysql9_7, "key_buffer", Unmet::Written("key_buffer_size")),
        (Server::Mysql9_7, "slave_parallel_threads", Unmet::Elsewhere(vec![Server::Mariadb10_11, Server::Mariadb11_8])),
        (Server::Mariadb11_8, "replica-parallel-workers", Unmet::Elsewhere(vec![Server::Mysql9_7])),
        (Server::Mariadb10_11, "loose-frob", Unmet::Passed),
        (Server::Mysql9_7, "check_constraint_checks", Unmet::Passed),
        (Server::Mysql9_7, "group_replication_frob", Unmet::Plugin),
        (Server::Mysql9_7, "frob", Unmet::Unknown),
        (Server::Mysql9_7, "--sort_buffer_size", Unmet::Unknown),
    ] {
        assert_eq!(resolve(server, name, Some("1")), Err(why), "{server} {name}");
    }
    assert!(matches!(resolve(Server::Mariadb10_11, "table_open", Some("1")), Err(Unmet::Refused(_))));
}

#[test]
fn the_nearest_name_is_a_slip_of_the_pen_away_or_none() {
    let letters =
        |a: &str, b: &str| a.chars().zip(b.chars()).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len());
    assert_eq!(crate::nearest(Server::Mysql9_7, "sort_buffer_sise", letters), Some("sort_buffer_size"));
    assert_eq!(crate::nearest(Server::Mysql9_7, "frobnicate_everything", letters), None);
}
