//! A current run whose end was judged: what below it does not verify is damage, and is told as the judge tells it.

use corewal_format::{Epoch, Incarnation, LogId, SegmentNumber, ShardRecord};

use crate::error::{Damage, IoFault};
use crate::layout::Layout;
use crate::recovery::facts::{self, Begin, RunPlan};
use crate::recovery::judge::{Claims, judge};
use crate::recovery::walk::Cursor;
use crate::recovery::window::Reading;

/// What judging a place of the run again takes.
#[derive(Debug, Clone)]
pub(crate) struct OpenRun {
    pub(crate) incarnation: Incarnation,
    pub(crate) first_epoch: Epoch,
    pub(crate) record: ShardRecord,
    pub(crate) segments: Vec<SegmentNumber>,
    pub(crate) claims: Claims,
}

impl OpenRun {
    /// Why the log is refused, with a walk that goes no further at `cursor`; none if nothing speaks of what must
    /// stand there, or it verifies when it is read again.
    pub(crate) fn refusal(
        &self,
        layout: &Layout,
        log: LogId,
        cursor: Cursor,
    ) -> Result<Option<Box<Damage>>, IoFault> {
        let Some(current) = self.record.current else { return Ok(None) };
        let facts = facts::gather(
            RunPlan {
                layout,
                log,
                incarnation: self.incarnation,
                first_epoch: self.first_epoch,
                record: &self.record,
                current,
                segments: &self.segments,
                reading: Reading::Inline,
            },
            Begin::At(cursor),
        )?;
        Ok(judge(&facts, &self.record, &self.claims).err())
    }
}
