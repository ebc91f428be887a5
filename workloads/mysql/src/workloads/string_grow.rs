//! `mysql/string-grow`: results that grow by small appends to a megabyte, GROUP_CONCAT and JSON_ARRAYAGG.
//!
//! Modelled on `String` (`memory::GrowingString` cites it): MariaDB's grows by 8064 bytes at a time, some 130 reallocs
//! to a megabyte, as measured on a recorded 10.11.19 for both functions; MySQL's grows by a quarter and moves each time.
//! Between the steps small blocks are made that live as long as the statement (values of the group, nodes of a
//! document), and some that outlive it. GROUP_CONCAT stops at `group_concat_max_len`. At the peak every session holds
//! a result of a megabyte.
//!
//! It should reveal whether an allocator grows a block where it lies when its neighbours are taken: glibc does only at
//! the top of an arena or before a hole, size classes copy at each step that leaves a class, and a block beyond the
//! mmap threshold moves without a copy.

use fragbench_engine::{Block, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::client::{Client, ClientLoad, Work};
use crate::memory::GrowingString;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 8;
const LOAD: &[Load] = &[ClientLoad::<Strings>::statements("60")];
/// Bytes of a value that is appended, with its separator or quotes.
const VALUE: u64 = 120;
const LONGEST: u64 = 1 << 20;
/// Values between two blocks that live as long as the statement.
const VALUES_A_SURVIVOR: u64 = 8;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/string-grow".to_owned(),
        summary: "results of GROUP_CONCAT and JSON_ARRAYAGG that grow to a megabyte by reallocs".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    Ok(Box::new(ClientLoad::new((vars, load), sessions, Strings::new)?))
}

/// A session that builds strings.
#[derive(Debug)]
pub(crate) struct Strings {
    result: GrowingString,
    survivors: Vec<Block>,
}

impl Strings {
    pub(crate) fn new(vars: &Sysvars) -> Strings {
        Strings { result: GrowingString::new(vars.flavor), survivors: Vec::with_capacity(2048) }
    }

    fn build(&mut self, client: &mut Client, ledger: &mut Ledger, bytes: u64) {
        for value in 0..bytes / VALUE {
            let length = client.random.between(VALUE / 2, VALUE * 3 / 2);
            self.result.append(ledger, length as usize);
            if value % VALUES_A_SURVIVOR == 0 {
                let (id, size) = (ledger.next_id(), client.random.between(80, 600) as usize);
                self.survivors.push(ledger.malloc(id, size));
            }
        }
    }
}

impl Work for Strings {
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, _number: u64) {
        client.execute(ledger, 6000);
        // Lengths are spread evenly over the doublings from 1 KiB to 1 MiB.
        let mut bytes = client.random.log_between(1 << 10, LONGEST);
        if client.random.chance(1, 2) {
            bytes = bytes.min(client.vars.group_concat_max_len as u64);
        }
        self.build(client, ledger, bytes.min(client.vars.max_allowed_packet as u64));
        client.keep(ledger);
        self.release(ledger);
        client.send_value(ledger, bytes as usize);
        client.end_statement(ledger, 100);
    }

    fn hold(&mut self, client: &mut Client, ledger: &mut Ledger) {
        self.build(client, ledger, LONGEST.min(client.vars.max_allowed_packet as u64));
    }

    fn release(&mut self, ledger: &mut Ledger) {
        self.result.free(ledger);
        self.survivors.drain(..).for_each(|block| ledger.free(block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flavor;
    use crate::client::tests::calls;
    use fragbench_engine::Call;

    /// Sizes of the string's growth at the peak: the calls of the block that is asked for anew most often.
    fn steps(vars: Sysvars) -> Vec<usize> {
        let strings = Strings::new(&vars);
        let before = calls(vars.clone(), Strings::new(&vars), 1, false).len();
        let calls = calls(vars, strings, 1, true);
        calls[before..].iter().filter(|call| call.call != Call::Free && call.size > 700).map(|call| call.size).collect()
    }

    #[test]
    fn mariadb_takes_some_130_reallocs_to_a_megabyte() {
        let steps = steps(Sysvars::default());
        assert!((125..=140).contains(&steps.len()), "{}", steps.len());
        let late: Vec<usize> = steps[20..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(late.iter().all(|step| (8064..8064 + 200).contains(step)), "{late:?}");
    }

    #[test]
    fn mysql_grows_by_a_quarter_and_never_reallocates() {
        let vars = Sysvars::of(Flavor::Mysql);
        let steps = steps(vars.clone());
        assert!((15..=40).contains(&steps.len()), "{}", steps.len());
        let calls = calls(vars.clone(), Strings::new(&vars), 40, true);
        assert!(calls.iter().all(|call| call.call != Call::Realloc));
    }

    #[test]
    fn group_concat_max_len_bounds_half_of_the_results() {
        let long = |vars: &Sysvars| {
            let calls = calls(vars.clone(), Strings::new(vars), 200, false);
            calls.iter().filter(|call| call.call == Call::Realloc && call.size > 8000).count()
        };
        let (default, short) =
            (long(&Sysvars::default()), long(&Sysvars { group_concat_max_len: 1024, ..Sysvars::default() }));
        assert!(short * 10 < default * 7 && short > 0, "{short} of {default}");
    }
}
