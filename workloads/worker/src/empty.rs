//! The workload `empty`: threads start, allocate nothing and wait. What is resident then is the allocator's start-up
//! cost and whatever of the harness leaks into the heap under test; both must be small against any other workload.

use fragbench_engine::{Context, Crew, Entry, Parameters, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

pub(crate) const ENTRY: Entry = Entry { fact, build };

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "empty".to_owned(),
        summary: "threads that allocate nothing: what allocator and harness take by themselves".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Vec::new(),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    Parameters::new(&[], &request.parameters)?;
    Ok(Box::new(Empty { threads: request.threads.unwrap_or(1), crew: None }))
}

struct Empty {
    threads: u32,
    crew: Option<Crew<()>>,
}

impl Workload for Empty {
    fn threads(&self) -> u32 {
        self.threads
    }

    fn run(&mut self, ctx: &mut Context) {
        let threads = self.threads as usize;
        self.crew = Some(ctx.phase("start", |ctx| Crew::start(ctx.spawner(), vec![(); threads])));
    }

    fn resume(&mut self, _ctx: &mut Context) {
        if let Some(crew) = &self.crew {
            crew.all(|_, (), _| {});
        }
    }
}
