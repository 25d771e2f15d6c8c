//! How batches become durable: what was asked for, what is known of the device, and what follows from both.
//!
//! A segment is written by one method from its first batch to its last. So whatever is chosen here takes effect on
//! a shard when it begins its next segment, and what is in flight is completed as it was begun.
//!
//! | module | what it does |
//! |---|---|
//! | `prober` | measures, on a thread of its own |
//! | `memory` | remembers the answer in a file of the log's directory |

mod memory;
mod prober;

use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use corewal_disk::Durability;

use crate::options::{Options, Policy, SyncMethod};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

pub use memory::Remembered;
pub(crate) use memory::{load, recall};
pub(crate) use prober::run;

/// How a segment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The write carries `RWF_DSYNC`.
    Dsync,
    /// A sync covers the writes that had completed before it.
    AfterWrite,
    /// The write is linked to a sync.
    Linked,
}

impl Method {
    pub(crate) const ALL: [Self; 3] = [Self::Dsync, Self::AfterWrite, Self::Linked];

    pub(crate) fn durability(self) -> Durability {
        match self {
            Self::Dsync => Durability::Dsync,
            Self::AfterWrite => Durability::Written,
            Self::Linked => Durability::LinkedSync,
        }
    }

    /// As in options and in the remembered answer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dsync => "dsync",
            Self::AfterWrite => "after-write",
            Self::Linked => "linked",
        }
    }

    /// A number for a word that threads share; never 0.
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Dsync => 1,
            Self::AfterWrite => 2,
            Self::Linked => 3,
        }
    }

    pub(crate) fn of_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }

    /// `None` for what is to be measured.
    pub(crate) fn asked(method: SyncMethod) -> Option<Self> {
        match method {
            SyncMethod::Auto => None,
            SyncMethod::Dsync => Some(Self::Dsync),
            SyncMethod::AfterWrite => Some(Self::AfterWrite),
            SyncMethod::Linked => Some(Self::Linked),
        }
    }
}

impl From<Method> for SyncMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Dsync => Self::Dsync,
            Method::AfterWrite => Self::AfterWrite,
            Method::Linked => Self::Linked,
        }
    }
}

/// Why batches become durable as they do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncReason {
    /// The options ask for it, or [`Log::switch_sync_method`](crate::Log::switch_sync_method) did.
    Asked,
    /// Another policy than [`Policy::EveryBatch`] needs syncs apart from writes.
    Policy,
    /// [`SyncMethod::Auto`], and the device is being measured, or will be when the log is quiet. Until then the method
    /// is [`SyncMethod::Dsync`].
    Measuring,
    /// It was measured since the log was opened.
    Measured(Vec<SyncSpeed>),
    /// It was measured when the log was open before.
    Remembered(Vec<SyncSpeed>),
    /// [`SyncMethod::Auto`], and nothing can be told of the device, for this reason. The method is
    /// [`SyncMethod::Dsync`].
    Unmeasured(String),
}

/// What a method gave in a measurement. A number of one moment of one machine: compare it with those beside it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncSpeed {
    /// Which.
    pub method: SyncMethod,
    /// Commits a second of one block each, one at a time; the median of the rounds.
    pub lone_per_s: u64,
    /// The same with as many in flight as the log may have; one at a time, too, where there is no ring.
    pub busy_per_s: u64,
}

impl fmt::Display for SyncReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, speeds) = match self {
            Self::Asked => return f.write_str("asked for"),
            Self::Policy => return f.write_str("the policy needs syncs apart from writes"),
            Self::Measuring => return f.write_str("not measured yet"),
            Self::Unmeasured(why) => return write!(f, "not measured: {why}"),
            Self::Measured(speeds) => ("measured", speeds),
            Self::Remembered(speeds) => ("measured earlier", speeds),
        };
        f.write_str(how)?;
        for (index, speed) in speeds.iter().enumerate() {
            write!(f, "{} {speed}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for SyncSpeed {
    /// `dsync 9100/s alone and 31000/s at once`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, lone_per_s, busy_per_s } = self;
        write!(f, "{method} {lone_per_s}/s alone and {busy_per_s}/s at once")
    }
}

/// What follows from a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) method: Method,
    pub(crate) speeds: Vec<SyncSpeed>,
}

/// What is known of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet.
    Pending,
    Measured(Verdict),
    Remembered(Verdict),
    /// Nothing, for this reason.
    Unmeasured(String),
}

impl Answer {
    fn method(&self) -> Method {
        match self {
            Self::Measured(verdict) | Self::Remembered(verdict) => verdict.method,
            Self::Pending | Self::Unmeasured(_) => Method::Dsync,
        }
    }
}

/// What the method is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Policy,
    Asked(Method),
    Answer,
}

/// How segments are written that begin from now on.
#[derive(Debug)]
pub(crate) struct Methods {
    /// The code of the method.
    chosen: AtomicU64,
    state: Mutex<State>,
    /// The log ends: so does measuring. The prober's own, and no model runs that.
    stopped: AtomicBool,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    answer: Answer,
}

impl State {
    fn method(&self) -> Method {
        match self.rule {
            Rule::Policy => Method::AfterWrite,
            Rule::Asked(method) => method,
            Rule::Answer => self.answer.method(),
        }
    }
}

impl Methods {
    pub(crate) fn new(options: &Options, answer: Answer) -> Self {
        let rule = match options.policy {
            Policy::EveryBatch => {
                Method::asked(options.sync_method).map_or(Rule::Answer, Rule::Asked)
            }
            Policy::Interval(_) | Policy::OnDemand => Rule::Policy,
        };
        let state = State { rule, answer };
        Self {
            chosen: AtomicU64::new(state.method().code()),
            state: Mutex::new(state),
            stopped: AtomicBool::new(false),
        }
    }

    /// The method of a segment that begins now.
    pub(crate) fn chosen(&self) -> Method {
        let code = self.chosen.load(Ordering::Acquire);
        Method::of_code(code).expect("only codes of methods are stored")
    }

    /// What is chosen, and why.
    pub(crate) fn report(&self) -> (Method, SyncReason) {
        let state = self.lock();
        let reason = match (state.rule, &state.answer) {
            (Rule::Policy, _) => SyncReason::Policy,
            (Rule::Asked(_), _) => SyncReason::Asked,
            (Rule::Answer, Answer::Pending) => SyncReason::Measuring,
            (Rule::Answer, Answer::Measured(it)) => SyncReason::Measured(it.speeds.clone()),
            (Rule::Answer, Answer::Remembered(it)) => SyncReason::Remembered(it.speeds.clone()),
            (Rule::Answer, Answer::Unmeasured(why)) => SyncReason::Unmeasured(why.clone()),
        };
        (state.method(), reason)
    }

    /// Somebody wants another one.
    pub(crate) fn ask(&self, method: SyncMethod) {
        self.change(|state| {
            if state.rule != Rule::Policy {
                state.rule = Method::asked(method).map_or(Rule::Answer, Rule::Asked);
            }
        });
    }

    /// The prober has come to its end.
    fn answer(&self, answer: Answer) {
        self.change(|state| state.answer = answer);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        // Under the lock, so that the last change is the one that stays.
        self.chosen.store(state.method().code(), Ordering::Release);
    }

    /// Whether an answer is wanted.
    pub(crate) fn is_pending(&self) -> bool {
        let state = self.lock();
        state.rule == Rule::Answer && state.answer == Answer::Pending
    }

    /// Nobody will need an answer any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdict(method: Method) -> Verdict {
        let speed = SyncSpeed { method: method.into(), lone_per_s: 10, busy_per_s: 30 };
        Verdict { method, speeds: vec![speed] }
    }

    fn options(method: SyncMethod) -> Options {
        Options::new("log").sync_method(method)
    }

    #[test]
    fn without_an_answer_it_is_dsync() {
        for answer in [Answer::Pending, Answer::Unmeasured("no device".into())] {
            let methods = Methods::new(&options(SyncMethod::Auto), answer);
            assert_eq!(methods.chosen(), Method::Dsync);
        }
    }

    #[test]
    fn an_answer_counts_when_nobody_asks_for_another_method() {
        let methods = Methods::new(&options(SyncMethod::Auto), Answer::Pending);
        assert!(methods.is_pending());
        methods.answer(Answer::Measured(verdict(Method::Linked)));
        assert!(!methods.is_pending());
        assert_eq!(methods.chosen(), Method::Linked);
        methods.ask(SyncMethod::AfterWrite);
        assert_eq!(methods.report(), (Method::AfterWrite, SyncReason::Asked));
        methods.ask(SyncMethod::Auto);
        let speeds = verdict(Method::Linked).speeds;
        assert_eq!(methods.report(), (Method::Linked, SyncReason::Measured(speeds)));
        assert_eq!(methods.chosen(), Method::Linked);
    }

    #[test]
    fn a_late_answer_does_not_undo_what_was_asked_for() {
        let methods = Methods::new(&options(SyncMethod::Auto), Answer::Pending);
        methods.ask(SyncMethod::Dsync);
        assert!(!methods.is_pending(), "it is not measured for nobody");
        methods.answer(Answer::Measured(verdict(Method::AfterWrite)));
        assert_eq!(methods.chosen(), Method::Dsync);
    }

    #[test]
    fn a_policy_with_syncs_of_its_own_takes_no_other_method() {
        for policy in [Policy::OnDemand, Policy::Interval(Duration::from_millis(1))] {
            for method in [SyncMethod::Auto, SyncMethod::Dsync, SyncMethod::Linked] {
                let methods = Methods::new(&options(method).policy(policy), Answer::Pending);
                assert!(!methods.is_pending());
                methods.ask(SyncMethod::Linked);
                assert_eq!(methods.report(), (Method::AfterWrite, SyncReason::Policy));
                assert_eq!(methods.chosen(), Method::AfterWrite);
            }
        }
    }

    #[test]
    fn every_method_has_a_code_and_a_name_of_its_own() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(Method::of_code(method.code()), Some(method));
            assert_eq!(Method::asked(method.into()), Some(method));
            assert!(Method::ALL[..index].iter().all(|it| it.name() != method.name()));
        }
        assert_eq!(Method::of_code(0), None, "before the first batch");
    }
}
