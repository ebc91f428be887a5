//! `mysql/temp-table`: report queries with internal temporary tables.
//!
//! Modelled on HEAP tables (MariaDB, and MySQL with `internal_tmp_mem_storage_engine=MEMORY`) and on MySQL's TempTable
//! engine; `memory::HeapTable` and `memory::TempTable` cite both. A statement has one table, now and then two at a
//! time, of few rows or of many: a HEAP table asks for blocks of a sixteenth of `tmp_memory_table_size` however few its
//! rows are, a TempTable for 1, 2, 4 MiB. All goes with the statement but a TempTable connection's first block. At the
//! peak every session holds a table of some thousand rows.
//!
//! It should reveal blocks just beyond the mmap threshold that come and go with each statement: a map and an unmap with
//! a page fault for each page used, until glibc raises the threshold and keeps them in arenas instead, one for each
//! thread at the worst.

use fragbench_engine::{Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::client::{Client, ClientLoad, Work};
use crate::memory::{HeapTable, TempTable};
use crate::{Load, Sysvars, TmpEngine};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 32;
const LOAD: &[Load] = &[ClientLoad::<TemporaryTables>::statements("20")];
/// Most rows of a statement's table, and rows at the peak.
const ROWS: u64 = 20_000;
const PEAK_ROWS: usize = 8000;
/// Shortest and longest row.
const ROW: (u64, u64) = (24, 300);

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/temp-table".to_owned(),
        summary: "report queries with internal temporary tables, HEAP or TempTable".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    let make = move |vars: &Sysvars| TemporaryTables::new(vars, sessions);
    Ok(Box::new(ClientLoad::new((vars, load), sessions, make)?))
}

/// A temporary table of either engine.
#[derive(Debug)]
enum Temporary {
    Heap(HeapTable),
    TempTable(TempTable),
}

impl Temporary {
    fn new(vars: &Sysvars, sessions: usize) -> Temporary {
        match vars.internal_tmp_mem_storage_engine {
            TmpEngine::Memory => Temporary::Heap(HeapTable::new(vars)),
            TmpEngine::TempTable => Temporary::TempTable(TempTable::new(vars, sessions)),
        }
    }

    fn fill(&mut self, ledger: &mut Ledger, row: usize, rows: usize) {
        match self {
            Temporary::Heap(table) => {
                table.create(ledger, row);
                table.insert(ledger, rows);
            }
            Temporary::TempTable(table) => {
                table.create(row);
                table.insert(ledger, rows);
            }
        }
    }

    fn free(&mut self, ledger: &mut Ledger) {
        match self {
            Temporary::Heap(table) => table.free(ledger),
            Temporary::TempTable(table) => table.free(ledger),
        }
    }
}

/// A session that runs reports.
#[derive(Debug)]
pub(crate) struct TemporaryTables {
    tables: [Temporary; 2],
}

impl TemporaryTables {
    pub(crate) fn new(vars: &Sysvars, sessions: usize) -> TemporaryTables {
        TemporaryTables { tables: [0; 2].map(|_| Temporary::new(vars, sessions)) }
    }
}

impl Work for TemporaryTables {
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, _number: u64) {
        client.execute(ledger, 10_000);
        let count = if client.random.chance(1, 5) { 2 } else { 1 };
        for table in &mut self.tables[..count] {
            let row = client.random.between(ROW.0, ROW.1) as usize;
            table.fill(ledger, row, client.random.log_between(1, ROWS) as usize);
        }
        client.keep(ledger);
        for table in self.tables[..count].iter_mut().rev() {
            table.free(ledger);
        }
        client.end_statement(ledger, 8000);
    }

    fn hold(&mut self, _client: &mut Client, ledger: &mut Ledger) {
        self.tables[0].fill(ledger, ROW.1 as usize, PEAK_ROWS);
    }

    fn release(&mut self, ledger: &mut Ledger) {
        for table in &mut self.tables {
            match table {
                Temporary::Heap(table) => table.free(ledger),
                Temporary::TempTable(table) => table.end(ledger),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flavor;
    use crate::client::tests::calls;
    use fragbench_engine::Call;

    const STATEMENTS: u64 = 100;

    fn large(vars: Sysvars) -> Vec<usize> {
        let work = TemporaryTables::new(&vars, 32);
        let calls = calls(vars, work, STATEMENTS, false);
        calls.iter().filter(|call| call.call == Call::Malloc && call.size >= 100_000).map(|call| call.size).collect()
    }

    #[test]
    fn heap_tables_ask_for_blocks_of_a_sixteenth_however_few_their_rows() {
        let large = large(Sysvars::default());
        let rows = large.iter().filter(|size| **size == 1_048_568).count();
        assert!((120..400).contains(&rows), "one for each of some 120 tables, and more for long ones: {rows}");
        // The index's entries are smaller than a row, and by how much decides its block.
        let blocks = [1_048_568, 524_280, 262_136, 131_064];
        assert!(large.iter().all(|size| blocks.contains(size)), "{large:?}");
    }

    #[test]
    fn a_smaller_table_has_smaller_blocks() {
        let vars = Sysvars { tmp_memory_table_size: 1 << 20, ..Sysvars::default() };
        assert!(large(vars.clone()).is_empty());
        let work = TemporaryTables::new(&vars, 32);
        let calls = calls(vars, work, STATEMENTS, false);
        assert!(calls.iter().filter(|call| call.size == 65_528).count() > 100);
    }

    #[test]
    fn temp_tables_keep_their_first_block_and_double() {
        let large = large(Sysvars::of(Flavor::Mysql));
        let of = |mib: usize| large.iter().filter(|size| **size == mib << 20).count();
        assert!(of(1) <= 1, "made once a connection and table, before the count begins: {}", of(1));
        assert!(of(2) > of(4) && of(4) > 0, "{} {}", of(2), of(4));
        // The engine is the variable's to choose.
        let memory = Sysvars { internal_tmp_mem_storage_engine: TmpEngine::Memory, ..Sysvars::of(Flavor::Mysql) };
        assert!(super::tests::large(memory).iter().all(|size| *size < 140_000));
    }
}
