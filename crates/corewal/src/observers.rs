//! What the program wants to be told of, on a thread of its own: no hook holds up a shard.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle};

use corewal_format::{Epoch, Seq, ShardId};

use crate::shared::Shared;
use crate::sync::{self, Mutex, MutexGuard, Thread, park};

/// Called with the committed epoch.
type OnCommit = Box<dyn FnMut(Epoch) + Send>;
/// Called with a shard and its frontier.
type OnFrontier = Box<dyn FnMut(ShardId, Seq) + Send>;

/// The hooks of a log, and the thread that calls them, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    board: Arc<Board>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread shares with the log.
#[derive(Debug, Default)]
struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Hooks that the thread has not taken over yet.
    added: Vec<Hook>,
    /// To wake the thread.
    caller: Option<Thread>,
    is_stopped: bool,
    /// What hooks panicked with.
    panics: Vec<String>,
}

/// A hook, and what it was told last.
enum Hook {
    Commit { call: OnCommit, told: Epoch },
    Frontier { call: OnFrontier, told: Vec<Seq> },
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit { .. } => "Commit",
            Self::Frontier { .. } => "Frontier",
        })
    }
}

impl Observers {
    pub(crate) fn on_commit(&self, shared: &Arc<Shared>, call: OnCommit) {
        self.add(shared, Hook::Commit { call, told: shared.epochs.committed() });
    }

    pub(crate) fn on_frontier(&self, shared: &Arc<Shared>, call: OnFrontier) {
        let told = shared.shards.iter().map(|it| it.frontier.get()).collect();
        self.add(shared, Hook::Frontier { call, told });
    }

    fn add(&self, shared: &Arc<Shared>, hook: Hook) {
        {
            let mut state = self.board.lock();
            state.added.push(hook);
            if let Some(caller) = &state.caller {
                caller.unpark();
            }
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (shared, board) = (Arc::clone(shared), Arc::clone(&self.board));
            let started = thread::Builder::new()
                .name("corewal-observers".into())
                .spawn(move || run(&shared, &board));
            *thread = Some(started.expect("the system starts a thread"));
        }
    }

    /// What hooks panicked with.
    pub(crate) fn panics(&self) -> Vec<String> {
        self.board.lock().panics.clone()
    }

    /// Tells the hooks what there still is to tell, and ends the thread.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.board.lock();
            state.is_stopped = true;
            if let Some(caller) = &state.caller {
                caller.unpark();
            }
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A hook may hold the last handle of the log: its thread cannot wait for itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // It contains the hooks' panics.
            let _ = thread.join();
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Hooks run without it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unparks the thread of the hooks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The thread of the hooks. It asks to be woken first and looks afterwards, so that nothing is missed.
fn run(shared: &Shared, board: &Board) {
    let waker = Waker::from(Arc::new(Unpark(sync::current())));
    let mut context = Context::from_waker(&waker);
    let mut places = vec![None; shared.shards.len()];
    let mut hooks = Vec::new();
    board.lock().caller = Some(sync::current());
    loop {
        let is_stopped = {
            let mut state = board.lock();
            hooks.append(&mut state.added);
            state.is_stopped
        };
        shared.epochs.watch(&waker);
        if hooks.iter().any(|hook| matches!(hook, Hook::Frontier { .. })) {
            for (shard, place) in shared.shards.iter().zip(&mut places) {
                // Ready only if the frontier moves no more, or moved just now and is told below.
                let _ = shard.frontier.poll(shard.frontier.get().next(), place, &mut context);
            }
        }
        let mut told = 0;
        hooks.retain_mut(|hook| match catch_unwind(AssertUnwindSafe(|| hook.tell(shared))) {
            Ok(count) => {
                told += count;
                true
            }
            Err(payload) => {
                board.lock().panics.push(message(payload.as_ref()));
                false
            }
        });
        if is_stopped {
            break;
        }
        if told == 0 {
            park();
        }
    }
    for (shard, place) in shared.shards.iter().zip(&mut places) {
        shard.frontier.forget(place);
    }
}

impl Hook {
    /// Tells what is new, if anything; returns how many calls that took.
    fn tell(&mut self, shared: &Shared) -> usize {
        match self {
            Self::Commit { call, told } => {
                let committed = shared.epochs.committed();
                if committed == *told {
                    return 0;
                }
                *told = committed;
                call(committed);
                1
            }
            Self::Frontier { call, told } => {
                let mut count = 0;
                for (shard, told) in shared.shards.iter().zip(told) {
                    let frontier = shard.frontier.get();
                    if frontier != *told {
                        *told = frontier;
                        call(shard.shard, frontier);
                        count += 1;
                    }
                }
                count
            }
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
