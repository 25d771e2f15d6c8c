//! Runs as files, so that a failure can be replayed: fixed little-endian numbers and lengths, for this version of
//! the harness alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::{Epoch, Incarnation, Kind, Seq, ShardId, Stamp};
use corewal_disk::{Action, Bytes, Durability, Event, FileId, Outcome, Trace};

use crate::ledger::{Given, Life};
use crate::run::Events;
use crate::voids::Void;
use crate::{Item, Ledger, Run};

const MAGIC: &[u8] = b"corewal recorded run 2\n";

impl Run {
    /// The run as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out(MAGIC.to_vec());
        out.number(self.seed);
        out.number(self.number);
        out.path(&self.dir);
        out.list(&self.trace.events, Out::event);
        out.list(&self.ledger.lives, Out::life);
        out.number(self.ledger.incarnation_floor.0);
        out.0
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made. What was wrong before any power cut is not kept.
    ///
    /// # Errors
    /// `InvalidData`.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let mut read = In(bytes.strip_prefix(MAGIC).ok_or_else(invalid)?);
        Ok(Self {
            seed: read.number()?,
            number: read.number()?,
            dir: read.path()?,
            trace: Trace { events: read.list(In::event)? },
            ledger: Ledger {
                lives: read.list(In::life)?,
                incarnation_floor: Incarnation(read.number()?),
                fault: None,
            },
            events: Events::default(),
        })
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no recorded run of this version")
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.bytes(path.to_string_lossy().as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|it| item(self, it));
    }

    fn content(&mut self, bytes: &Bytes) {
        match bytes {
            Bytes::Zeros(len) => {
                self.number(0);
                self.number(*len as u64);
            }
            Bytes::Stored(bytes) => {
                self.number(1);
                self.bytes(bytes);
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Begin(action) => {
                self.number(0);
                self.action(action);
            }
            Event::End { begin, outcome } => {
                self.number(1);
                self.number(*begin as u64);
                match outcome {
                    Outcome::Done(len) => {
                        self.number(0);
                        self.number(*len as u64);
                    }
                    Outcome::Failed(error) => {
                        self.number(1);
                        self.bytes(error.as_bytes());
                    }
                }
            }
            Event::FoundDir(dir) => {
                self.number(2);
                self.path(dir);
            }
            Event::Found { file, path, bytes } => {
                self.number(3);
                self.number(u64::from(file.0));
                self.path(path);
                self.content(bytes);
            }
            Event::Mark(mark) => {
                self.number(4);
                self.number(*mark);
            }
        }
    }

    fn action(&mut self, action: &Action) {
        let kind = |out: &mut Self, kind: u64, file: &FileId| {
            out.number(kind);
            out.number(u64::from(file.0));
        };
        match action {
            Action::CreateDir(path) => {
                self.number(0);
                self.path(path);
            }
            Action::Create { file, path } => {
                kind(self, 1, file);
                self.path(path);
            }
            Action::Write { file, at, bytes, durability } => {
                kind(self, 2, file);
                self.number(*at);
                self.content(bytes);
                self.number(match durability {
                    Durability::Written => 0,
                    Durability::Dsync => 1,
                    Durability::LinkedSync => 2,
                    Durability::DrainedSync => 3,
                });
            }
            Action::Sync { file } => kind(self, 3, file),
            Action::Allocate { file, len } => {
                kind(self, 4, file);
                self.number(*len);
            }
            Action::Rename { file, from, to } => {
                kind(self, 5, file);
                self.path(from);
                self.path(to);
            }
            Action::Remove { file, path } => {
                kind(self, 6, file);
                self.path(path);
            }
            Action::SyncDir(path) => {
                self.number(7);
                self.path(path);
            }
            Action::Lock(path) => {
                self.number(8);
                self.path(path);
            }
        }
    }

    fn stamp(&mut self, stamp: Stamp) {
        self.number(stamp.epoch.0);
        self.number(stamp.seq.0);
        self.number(u64::from(stamp.shard.0));
    }

    fn item(&mut self, item: &Item) {
        self.stamp(item.stamp);
        self.number(u64::from(item.kind.0));
        self.bytes(&item.payload);
        self.number(u64::from(item.continues));
    }

    fn life(&mut self, life: &Life) {
        self.number(life.from);
        let kept: Vec<_> = life.kept.iter().collect();
        self.list(&kept, |out, (shard, items)| {
            out.number(u64::from(shard.0));
            out.list(items, Self::item);
        });
        self.number(life.kept_committed.0);
        self.number(life.floor.0);
        let opened: Vec<_> = life.opened.iter().collect();
        self.list(&opened, |out, (at, incarnation, shards)| {
            out.number(*at);
            out.number(incarnation.0);
            out.number(u64::from(*shards));
        });
        let given: Vec<_> = life.given.iter().collect();
        self.list(&given, |out, (shard, list)| {
            out.number(u64::from(shard.0));
            out.list(list, |out, (at, given)| {
                out.number(*at);
                match given {
                    Given::Entry(item) => {
                        out.number(0);
                        out.item(item);
                    }
                    Given::Barrier { epoch, by } => {
                        out.number(1);
                        out.number(epoch.0);
                        out.number(*by);
                    }
                }
            });
        });
        self.list(&life.acknowledged, |out, (at, shard, seq)| {
            out.number(*at);
            out.number(u64::from(shard.0));
            out.number(seq.0);
        });
        self.list(&life.committed, |out, (at, epoch)| {
            out.number(*at);
            out.number(epoch.0);
        });
        self.list(&life.voids, |out, void| {
            out.number(void.begun);
            out.list(void.done.as_slice(), |out, at| out.number(*at));
            let above: Vec<(ShardId, Seq)> = void.above.iter().map(|(&a, &b)| (a, b)).collect();
            out.list(&above, |out, (shard, seq)| {
                out.number(u64::from(shard.0));
                out.number(seq.0);
            });
        });
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn take(&mut self, len: usize) -> io::Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(invalid)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| invalid())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn small<T: TryFrom<u64>>(&mut self) -> io::Result<T> {
        T::try_from(self.number()?).map_err(|_| invalid())
    }

    fn bytes(&mut self) -> io::Result<&[u8]> {
        let len = self.small()?;
        self.take(len)
    }

    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| invalid())
    }

    fn path(&mut self) -> io::Result<PathBuf> {
        Ok(self.text()?.into())
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn content(&mut self) -> io::Result<Bytes> {
        Ok(match self.number()? {
            0 => Bytes::Zeros(self.small()?),
            _ => Bytes::Stored(self.bytes()?.into()),
        })
    }

    fn event(&mut self) -> io::Result<Event> {
        Ok(match self.number()? {
            0 => Event::Begin(self.action()?),
            1 => Event::End {
                begin: self.small()?,
                outcome: match self.number()? {
                    0 => Outcome::Done(self.small()?),
                    _ => Outcome::Failed(self.text()?),
                },
            },
            2 => Event::FoundDir(self.path()?),
            3 => Event::Found { file: self.file()?, path: self.path()?, bytes: self.content()? },
            4 => Event::Mark(self.number()?),
            _ => return Err(invalid()),
        })
    }

    fn file(&mut self) -> io::Result<FileId> {
        Ok(FileId(self.small()?))
    }

    fn action(&mut self) -> io::Result<Action> {
        Ok(match self.number()? {
            0 => Action::CreateDir(self.path()?),
            1 => Action::Create { file: self.file()?, path: self.path()? },
            2 => Action::Write {
                file: self.file()?,
                at: self.number()?,
                bytes: self.content()?,
                durability: match self.number()? {
                    0 => Durability::Written,
                    1 => Durability::Dsync,
                    2 => Durability::LinkedSync,
                    _ => Durability::DrainedSync,
                },
            },
            3 => Action::Sync { file: self.file()? },
            4 => Action::Allocate { file: self.file()?, len: self.number()? },
            5 => Action::Rename { file: self.file()?, from: self.path()?, to: self.path()? },
            6 => Action::Remove { file: self.file()?, path: self.path()? },
            7 => Action::SyncDir(self.path()?),
            8 => Action::Lock(self.path()?),
            _ => return Err(invalid()),
        })
    }

    fn stamp(&mut self) -> io::Result<Stamp> {
        Ok(Stamp {
            epoch: Epoch(self.number()?),
            seq: Seq(self.number()?),
            shard: ShardId(self.small()?),
        })
    }

    fn item(&mut self) -> io::Result<Item> {
        Ok(Item {
            stamp: self.stamp()?,
            kind: Kind(self.small()?),
            payload: self.bytes()?.into(),
            continues: self.number()? != 0,
        })
    }

    fn life(&mut self) -> io::Result<Life> {
        let from = self.number()?;
        let kept = self.list(|read| Ok((ShardId(read.small()?), read.list(Self::item)?)))?;
        let kept: BTreeMap<ShardId, Arc<[Item]>> =
            kept.into_iter().map(|(shard, items)| (shard, items.into())).collect();
        Ok(Life {
            from,
            kept,
            kept_committed: Epoch(self.number()?),
            floor: Epoch(self.number()?),
            opened: self
                .list(|read| Ok((read.number()?, Incarnation(read.number()?), read.small()?)))?
                .pop(),
            given: self
                .list(|read| Ok((ShardId(read.small()?), read.list(Self::given)?)))?
                .into_iter()
                .collect(),
            acknowledged: self
                .list(|read| Ok((read.number()?, ShardId(read.small()?), Seq(read.number()?))))?,
            committed: self.list(|read| Ok((read.number()?, Epoch(read.number()?))))?,
            voids: self.list(|read| {
                Ok(Void {
                    begun: read.number()?,
                    done: read.list(Self::number)?.pop(),
                    above: read
                        .list(|read| Ok((ShardId(read.small()?), Seq(read.number()?))))?
                        .into_iter()
                        .collect(),
                })
            })?,
            // A recorded run lets go of nothing.
            retention: crate::retention::Retention::default(),
        })
    }

    fn given(&mut self) -> io::Result<(u64, Given)> {
        let at = self.number()?;
        Ok(match self.number()? {
            0 => (at, Given::Entry(self.item()?)),
            _ => (at, Given::Barrier { epoch: Epoch(self.number()?), by: self.number()? }),
        })
    }
}
