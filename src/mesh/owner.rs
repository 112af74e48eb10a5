//! Which worker's mailbox a message goes to. Pure.
//!
//! A shard's timers are kept by the worker of the same number; a waiting request is answered by
//! the worker that accepted it. Messages to one worker are gathered, so that it is woken once.

use crate::limit::{Output, Outputs};

/// The messages of one batch, sorted by the worker they are for.
#[derive(Default)]
pub struct Sorted {
    /// For this worker itself, in order.
    pub own: Vec<Output>,
    /// For others, in order, each with its worker.
    pub others: Vec<(usize, Output)>,
}

impl Sorted {
    /// Drains `outputs`, sorting them for a sender that is worker `own`.
    pub fn sort(&mut self, own: usize, outputs: &mut Outputs) {
        while let Some(output) = outputs.pop() {
            match recipient(&output) {
                Some(worker) if worker != own => self.others.push((worker, output)),
                Some(_) | None => self.own.push(output),
            }
        }
        // Stable, so that what one worker gets stays in order.
        self.others.sort_by_key(|&(worker, _)| worker);
    }
}

/// The worker that acts on `output`; `None` for whoever has it first.
pub fn recipient(output: &Output) -> Option<usize> {
    match output {
        Output::Go { ticket, .. } | Output::Refuse { ticket, .. } => {
            Some(usize::from(ticket.worker))
        }
        Output::Deadline { shard, .. } => Some(*shard),
        Output::Confirm { .. } => None,
    }
}
