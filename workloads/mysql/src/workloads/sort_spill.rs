//! `mysql/sort-spill`: sessions that sort, half of them idle at any time.
//!
//! Modelled on MariaDB's filesort, one block up to `sort_buffer_size` and a radix buffer beside it, and on MySQL's
//! chain of blocks (`memory::SortBuffer` cites both). Every second statement of a session is a sort, of 64 KiB up to
//! the whole buffer; one in four has more rows than fit and goes to a file. The other statement is small and leaves
//! something behind. At the peak every session holds a full buffer.
//!
//! It should reveal what glibc's moving mmap threshold does: the first large buffers are mapped and go back when they
//! are freed, later ones of the same size come from arenas and stay, a plateau of sessions times `sort_buffer_size`.
//! MySQL's chain stays below the threshold for longer and leaves holes of many sizes.

use fragbench_engine::{Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::client::{Client, ClientLoad, Work};
use crate::memory::SortBuffer;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 16;
const LOAD: &[Load] = &[ClientLoad::<Sorts>::statements("200")];
/// Smallest sort that is interesting, in bytes of records.
const LEAST: u64 = 64 << 10;
/// Expected rows of a range of an InnoDB table: enough to ask for the whole of `sort_buffer_size`.
const UNKNOWN: usize = 1 << 30;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/sort-spill".to_owned(),
        summary: "sorts of 64 KiB to sort_buffer_size and beyond, half of the sessions idle".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    let make = |_: &Sysvars| Sorts { held: None };
    Ok(Box::new(ClientLoad::new((vars, load), sessions, make)?))
}

/// A session that sorts.
#[derive(Debug)]
pub(crate) struct Sorts {
    pub(crate) held: Option<SortBuffer>,
}

impl Work for Sorts {
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, number: u64) {
        if (number + client.number as u64) % 2 == 1 {
            client.execute(ledger, 4000);
            client.keep(ledger);
            return client.end_statement(ledger, 100);
        }
        client.execute(ledger, 8000);
        let record = client.random.between(40, 400) as usize;
        let room = client.vars.sort_buffer_size as u64;
        let bytes = if client.random.chance(1, 4) {
            client.random.between(room, 4 * room)
        } else {
            client.random.log_between(LEAST.min(room), room)
        };
        let rows = (bytes as usize / (record + 8)).max(1);
        // Of a temporary table the rows are known, of a range they are not.
        let expected = if client.random.chance(1, 2) { rows } else { UNKNOWN };
        let mut sort = SortBuffer::new(ledger, &client.vars, expected, record);
        sort.sort(ledger, rows);
        sort.free(ledger);
        client.end_statement(ledger, 4000);
    }

    fn hold(&mut self, client: &mut Client, ledger: &mut Ledger) {
        let record = 100;
        let mut sort = SortBuffer::new(ledger, &client.vars, UNKNOWN, record);
        sort.sort(ledger, client.vars.sort_buffer_size / (record + 8));
        self.held = Some(sort);
    }

    fn release(&mut self, ledger: &mut Ledger) {
        if let Some(sort) = self.held.take() {
            sort.free(ledger);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flavor;
    use crate::client::tests::calls;
    use fragbench_engine::Call;

    fn sizes(vars: Sysvars) -> Vec<usize> {
        let calls = calls(vars, Sorts { held: None }, 200, true);
        assert!(calls.iter().all(|call| call.call != Call::Realloc));
        calls.into_iter().filter(|call| call.call == Call::Malloc).map(|call| call.size).collect()
    }

    #[test]
    fn mariadb_asks_for_whole_buffers_up_to_the_variable() {
        let vars = Sysvars::default();
        let sizes = sizes(vars.clone());
        let whole = sizes.iter().filter(|size| **size > 2_000_000).count();
        assert!((40..=90).contains(&whole), "half of 100 sorts do not know their rows: {whole}");
        assert!(sizes.iter().all(|size| *size <= vars.sort_buffer_size + 24 + 8));
        let merges = sizes.iter().filter(|size| **size == 32_792).count();
        assert!((15..=40).contains(&merges), "a quarter goes to a file: {merges}");
        let kept = sizes.iter().filter(|size| (48..=600).contains(*size)).count();
        assert!(kept >= 100, "each second statement leaves something behind: {kept}");
    }

    #[test]
    fn mysql_asks_for_chains_and_the_variable_bounds_both() {
        let chain = sizes(Sysvars::of(Flavor::Mysql));
        let count = |size: usize| chain.iter().filter(|s| **s == size + 32).count();
        // A sort that goes to a file has a merge's buffer of 32 KiB as well, and two IO_CACHEs beside the one of each.
        let spilled = (count(65_536) - 101) / 2;
        assert_eq!(count(32_768) - spilled, 101, "each sort begins with 32 KiB, that of the peak too");
        assert!(chain.contains(&(110_592 + 32)) && chain.iter().all(|size| *size < 192 << 10));
        let small = sizes(Sysvars { sort_buffer_size: 128 << 10, ..Sysvars::default() });
        assert!(small.iter().any(|size| *size > 130_000));
        assert!(small.iter().all(|size| *size <= (128 << 10) + 32));
    }
}
