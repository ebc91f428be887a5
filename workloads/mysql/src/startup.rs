//! What a server holds before any client comes: taken once by its main thread, kept until it ends.
//!
//! Source: blocks live in a recorded MariaDB 10.11.19 with a buffer pool of 64 MiB, settled and idle, before the first
//! client: 1512 blocks of 44.9 MiB, 0.27 MiB of them in 993 blocks below 1 KiB. The server's memory as seen from outside
//! at that moment (43.9 MiB of heap resident) says that all of it is touched. Known objects are the 34 `THD`s of 27400
//! bytes (InnoDB's background tasks) and trx_t's pool of 4 MiB; the buffers of several MiB grow with the sizes of page
//! and key caches. Sizes of fewer than four small blocks are counted with the nearest listed one.
//!
//! MySQL 9.7.4 (Debian sid), recorded in the same way under glibc 2.43 twice, is another server: 67,699 and 67,731 blocks of
//! 134.2 MiB, 64 MiB of them the redo log buffer, which is the heap's there, 7.4 MiB in 66,500 blocks below 1 KiB, most of
//! the dictionary's. Sizes of fewer than twelve small blocks are counted with the nearest listed one.

use fragbench_engine::{Block, Ledger, Random};

use crate::{Flavor, Sysvars};

/// MariaDB's: size and count, largest first.
const MARIADB: &[(usize, usize)] = &[
    (24481864, 1),
    (6031592, 1),
    (4194304, 1),
    (2097152, 2),
    (1031656, 1),
    (524304, 2),
    (406160, 1),
    (320024, 1),
    (204800, 2),
    (188928, 3),
    (139168, 3),
    (101960, 1),
    (81968, 1),
    (80008, 1),
    (80000, 1),
    (79232, 1),
    (72704, 1),
    (65560, 1),
    (65536, 2),
    (32760, 3),
    (30864, 4),
    (29904, 1),
    (27400, 34),
    (27024, 1),
    (26064, 3),
    (25104, 1),
    (24168, 1),
    (20384, 1),
    (20352, 1),
    (19344, 1),
    (18384, 1),
    (18160, 1),
    (16416, 1),
    (16410, 1),
    (16408, 2),
    (8416, 8),
    (8216, 10),
    (8192, 2),
    (8184, 33),
    (8128, 2),
    (8024, 7),
    (5144, 5),
    (5104, 6),
    (4296, 4),
    (4120, 2),
    (4096, 139),
    (4088, 28),
    (2736, 3),
    (2328, 10),
    (2080, 5),
    (1504, 20),
    (1168, 25),
    (1152, 16),
    (1096, 32),
    (1048, 36),
    (1040, 42),
    (1016, 46),
    (960, 20),
    (744, 13),
    (712, 22),
    (544, 23),
    (536, 47),
    (512, 34),
    (480, 16),
    (472, 7),
    (408, 8),
    (384, 35),
    (352, 19),
    (328, 12),
    (280, 138),
    (272, 9),
    (232, 39),
    (216, 48),
    (168, 12),
    (152, 84),
    (144, 4),
    (128, 5),
    (120, 36),
    (96, 22),
    (88, 51),
    (80, 8),
    (72, 26),
    (64, 35),
    (56, 35),
    (48, 26),
    (43, 6),
    (40, 20),
    (37, 5),
    (36, 5),
    (35, 6),
    (32, 19),
    (24, 36),
    (16, 16),
];
/// From here on glibc maps a block by itself; the server takes these first.
const LARGE: usize = 128 << 10;

/// Taken at the end and freed at once, hardly touched; MariaDB's, MySQL's. It matters to glibc, whose mmap threshold rises to the largest
/// mapped block freed so far, and whose trim threshold to twice that: from here on the heap serves blocks of megabytes.
const PASSING: [usize; 2] = [19_922_968, 20_971_520];
/// MySQL's, as [`MARIADB`].
const MYSQL: &str = include_str!("startup/mysql.txt");
/// What MySQL's redo log buffer takes beside `innodb_log_buffer_size`.
const LOG_BUFFER_EXTRA: usize = 1024;

/// Sizes of all blocks, largest first.
fn sizes(vars: &Sysvars) -> Vec<usize> {
    let listed = |(size, count)| std::iter::repeat_n(size, count);
    if vars.flavor == Flavor::Mariadb {
        return MARIADB.iter().copied().flat_map(listed).collect();
    }
    let number = |word: &str| word.parse().unwrap_or_else(|_| unreachable!("a number in startup/mysql.txt"));
    let lines = MYSQL.lines().filter_map(|line| line.split_once(' ')).filter(|(size, _)| *size != "#");
    let own = lines.map(|(size, count)| (number(size), number(count))).flat_map(listed);
    let mut sizes: Vec<usize> = std::iter::once(vars.innodb_log_buffer_size + LOG_BUFFER_EXTRA).chain(own).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

/// The memory; never freed, as the server's is not before it ends.
#[derive(Debug)]
pub(crate) struct Startup {
    /// Kept alive by being known.
    _blocks: Vec<Block>,
}

impl Startup {
    /// Takes it: large blocks first, the others in random order.
    pub(crate) fn new(ledger: &mut Ledger, vars: &Sysvars, mut random: Random) -> Startup {
        let mut sizes = sizes(vars);
        let large = sizes.partition_point(|size| *size >= LARGE);
        random.shuffle(&mut sizes[large..]);
        let mut take = |size| {
            let id = ledger.next_id();
            ledger.malloc(id, size)
        };
        let blocks = sizes.into_iter().map(&mut take).collect();
        let id = ledger.next_id();
        let passing = ledger.malloc_touching(id, PASSING[usize::from(vars.flavor == Flavor::Mysql)], 1);
        ledger.free(passing);
        Startup { _blocks: blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_ledger;

    #[test]
    fn it_holds_what_the_servers_were_seen_to_hold() {
        for (flavor, blocks, seen) in [(Flavor::Mariadb, 1512, 44.9), (Flavor::Mysql, 67699, 134.2)] {
            let mut ledger = test_ledger();
            let before = ledger.live_bytes();
            let startup = Startup::new(&mut ledger, &Sysvars::of(flavor), Random::new(1, 0));
            let mib = (ledger.live_bytes() - before) as f64 / f64::from(1 << 20);
            assert!((mib - seen).abs() < 0.1, "{mib} MiB");
            assert_eq!(startup._blocks.len(), blocks);
        }
    }
}
