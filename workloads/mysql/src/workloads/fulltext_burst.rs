//! `mysql/fulltext-burst`: a fulltext query whose heap grows to 80 MB and goes at once, while pins land among it.
//!
//! Modelled on InnoDB's phrase search (`memory::FulltextQuery` cites it), on Percona PS-5312 and MySQL bug 95065. A few
//! sessions work on small statements; now and then each of them runs a phrase search of a few thousand documents.
//! What such a session meets meanwhile stays: a metadata lock, a definition read into the dictionary, every few hundred
//! documents. At the peak the first session's query takes `heap_size` in blocks of 8128 bytes and two hundred thousand
//! small nodes, and holds them; in the phase "freed" they all go.
//!
//! It should reveal how much of a heap of 80 MB goes back when every page was used and one in a few hundred kilobytes
//! is pinned by 48 to 600 bytes: glibc gives back nothing of an arena above which something lives, `malloc_trim` all
//! whole pages, size-class allocators those runs that have become empty.

use std::sync::Arc;

use fragbench_engine::{Block, Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::client::{Client, ClientLoad, Clients, MOST, STATEMENTS, Work, scaled};
use crate::memory::FulltextQuery;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 4;
const LOAD: &[Load] = &[
    ClientLoad::<Searches>::statements("24"),
    ("heap_size", "80M", "heap of the large query, in words and positions"),
    ("documents_a_pin", "250", "documents of a query between two small things that stay for good"),
];
/// Documents of an everyday query.
const DOCUMENTS: (u64, u64) = (10, 2000);

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/fulltext-burst".to_owned(),
        summary: "a fulltext query's 80 MB of small heap blocks, freed at once among pins".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    Ok(Box::new(FulltextBurst {
        sessions: vars.sessions(request, SESSIONS)?,
        vars: Arc::new(vars),
        statements: load.size(STATEMENTS, 1, MOST)?,
        heap: load.size("heap_size", 1, 1 << 32)? as usize,
        documents_a_pin: load.size("documents_a_pin", 1, MOST)?,
        clients: None,
    }))
}

/// The workload.
struct FulltextBurst {
    vars: Arc<Sysvars>,
    sessions: usize,
    statements: u64,
    heap: usize,
    documents_a_pin: u64,
    clients: Option<Clients<Searches>>,
}

/// A session that searches.
#[derive(Debug)]
pub(crate) struct Searches {
    /// Heap of the large query.
    heap: usize,
    documents_a_pin: u64,
    pins: Vec<Block>,
    held: Option<FulltextQuery>,
}

impl Searches {
    pub(crate) fn new(heap: usize, documents_a_pin: u64) -> Searches {
        Searches { heap, documents_a_pin, pins: Vec::with_capacity(1024), held: None }
    }

    /// Matches documents until the heap has `bytes`, or the server's limit is reached.
    fn search(&mut self, client: &mut Client, ledger: &mut Ledger, bytes: usize) -> FulltextQuery {
        let mut query = FulltextQuery::new(ledger, &client.vars);
        let mut documents = 0;
        while query.taken() < bytes && query.document(ledger) {
            documents += 1;
            if documents % self.documents_a_pin == 0 {
                let (id, size) = (ledger.next_id(), client.random.between(48, 600) as usize);
                self.pins.push(ledger.malloc(id, size));
            }
        }
        query
    }
}

impl Work for Searches {
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, number: u64) {
        client.execute(ledger, 6000);
        if number.is_multiple_of(4) {
            let documents = client.random.log_between(DOCUMENTS.0, DOCUMENTS.1) as usize;
            let query = self.search(client, ledger, documents * FulltextQuery::WORDS);
            query.free(ledger);
        } else {
            client.keep(ledger);
        }
        client.end_statement(ledger, 1000);
    }

    fn hold(&mut self, client: &mut Client, ledger: &mut Ledger) {
        if client.number == 0 {
            self.held = Some(self.search(client, ledger, self.heap));
        } else {
            (1..40).for_each(|number| self.statement(client, ledger, number));
        }
    }

    fn release(&mut self, ledger: &mut Ledger) {
        if let Some(query) = self.held.take() {
            query.free(ledger);
        }
    }
}

impl Workload for FulltextBurst {
    fn threads(&self) -> u32 {
        self.sessions as u32
    }

    fn run(&mut self, ctx: &mut Context) {
        let (seed, scale) = (ctx.settings().seed, ctx.settings().scale);
        let statements = scaled(self.statements, scale);
        // A longer run has more statements, not a larger query; a shorter one has a smaller query.
        let heap = (self.heap as f64 * scale.min(1.0)) as usize;
        let works = (0..self.sessions).map(|_| Searches::new(heap, self.documents_a_pin));
        let mut clients = ctx.phase("warm-up", |ctx| {
            let clients = Clients::connect(ctx.spawner(), &self.vars, (seed, 0), works);
            clients.statements(0, 1);
            clients
        });
        ctx.phase("steady", |_| clients.statements(1, statements));
        ctx.phase("peak", |_| clients.hold());
        ctx.phase("freed", |_| clients.all(|_, work, ledger| work.release(ledger)));
        ctx.phase("disconnect", |_| clients.disconnect());
        ctx.fact("heap_size", heap as f64);
        self.clients = Some(clients);
    }

    fn resume(&mut self, _ctx: &mut Context) {
        if let Some(clients) = &mut self.clients {
            clients.reconnect();
            clients.statements(0, 4);
            clients.disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::calls_keeping;
    use fragbench_engine::Call;

    #[test]
    fn the_large_query_is_blocks_of_8128_bytes_with_pins_among_them() {
        let heap = 8_000_000;
        let (calls, live) = calls_keeping(Sysvars::default(), Searches::new(heap, 100), 0, true);
        let count = |size: usize| calls.iter().filter(|call| call.call == Call::Malloc && call.size == size).count();
        let blocks = count(8128);
        assert!((heap / 8000..heap / 7000).contains(&blocks), "{blocks} blocks for {heap} bytes");
        let documents = heap.div_ceil(FulltextQuery::WORDS);
        assert_eq!((count(640), count(16_512)), (documents, documents));
        // What is left after all has gone are the pins, one for a hundred documents.
        let pins = documents / 100;
        assert!((48 * pins as i64..=600 * pins as i64).contains(&live), "{live} bytes in {pins} pins");
    }

    #[test]
    fn the_servers_limit_ends_a_query() {
        let vars = Sysvars { innodb_ft_result_cache_limit: 1_000_000, ..Sysvars::default() };
        let (calls, _) = calls_keeping(vars, Searches::new(8_000_000, 100), 0, true);
        let blocks = calls.iter().filter(|call| call.call == Call::Malloc && call.size == 8128).count();
        assert!((120..160).contains(&blocks), "{blocks}");
    }
}
