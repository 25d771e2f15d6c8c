//! Directories: names that can be seen, and names that are durable.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cut::UnitId;
use super::node::{Content, Directory, FileNode, Node, NodeId};
use super::options::NameOrder;
use super::state::{ROOT, State};
use super::trace::TraceStep;
use super::{FaultKind, faults::Errno};

/// A name in a directory.
pub(super) type Place = (NodeId, Arc<str>);

/// A change of names that is not durable.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) unit: UnitId,
    pub(super) node: NodeId,
    pub(super) what: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Create(Place),
    Remove(Place),
    Rename(Place, Place),
}

impl NameChange {
    pub(super) fn touches(&self, directory: NodeId) -> bool {
        match &self.what {
            Change::Create((at, _)) | Change::Remove((at, _)) => *at == directory,
            Change::Rename((from, _), (to, _)) => [from, to].contains(&&directory),
        }
    }
}

impl State {
    /// What stands at `path`.
    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        self.walk(&Self::parts(path))
    }

    fn walk(&self, parts: &[String]) -> io::Result<NodeId> {
        parts.iter().try_fold(ROOT, |at, part| {
            let directory = self.node(at).directory().ok_or(io::ErrorKind::NotADirectory)?;
            let found = directory.visible.get(part.as_str()).copied();
            found.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    /// The directory that `path` is in, and its name there.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let parts = Self::parts(path);
        let (name, parent) = parts.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.walk(parent)?;
        self.node(parent).directory().ok_or(io::ErrorKind::NotADirectory)?;
        Ok((parent, name.as_str().into()))
    }

    /// What has a name.
    pub(super) fn at(&self, place: &Place) -> Option<NodeId> {
        self.node(place.0).directory()?.visible.get(&place.1).copied()
    }

    pub(super) fn path_of(&self, place: &Place) -> Arc<str> {
        let parent = &self.node(place.0).path;
        format!("{}/{}", parent.trim_end_matches('/'), place.1).into()
    }

    pub(super) fn create_file(&mut self, place: Place) -> io::Result<NodeId> {
        let is_full = |it: &Self| it.options.capacity.is_some_and(|capacity| it.used() >= capacity);
        if is_full(self) {
            self.make_names_durable();
            if is_full(self) {
                return Err(Errno::NoSpace.into());
            }
        }
        self.create(place, Content::File(FileNode::default()), TraceStep::Create)
    }

    pub(super) fn create_directory(&mut self, place: Place) -> io::Result<NodeId> {
        let content = Content::Directory(Directory::default());
        self.create(place, content, TraceStep::CreateDirectory)
    }

    fn create(&mut self, place: Place, content: Content, step: TraceStep) -> io::Result<NodeId> {
        let path = self.path_of(&place);
        self.step(&path, step)?;
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, Node { path, draws: 0, content });
        self.see(&place, Some(id));
        self.change(id, Change::Create(place));
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: Place, to: Place) -> io::Result<()> {
        let id = self.at(&from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = self.at(&to);
        if replaced == Some(id) {
            return Ok(());
        }
        let is_directory = |id: NodeId| self.node(id).directory().is_some();
        if replaced.is_some_and(|replaced| is_directory(replaced) != is_directory(id)) {
            return Err(Errno::Invalid.into());
        }
        let (old, new) = (self.path_of(&from), self.path_of(&to));
        self.step(&old, TraceStep::Rename(Arc::clone(&new)))?;
        self.see(&from, None);
        self.see(&to, Some(id));
        self.change(id, Change::Rename(from, to));
        self.call(id, new);
        Ok(())
    }

    /// The node, and everything in it, has a new path.
    pub(super) fn call(&mut self, id: NodeId, path: Arc<str>) {
        let inside: Vec<Place> = self
            .node(id)
            .directory()
            .map(|it| it.visible.keys().map(|name| (id, Arc::clone(name))).collect())
            .unwrap_or_default();
        self.node_mut(id).path = path;
        for place in inside {
            let path = self.path_of(&place);
            if let Some(child) = self.at(&place) {
                self.call(child, path);
            }
        }
    }

    pub(super) fn remove(&mut self, place: Place) -> io::Result<()> {
        let Some(id) = self.at(&place) else { return Ok(()) };
        if self.node(id).directory().is_some() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let path = self.path_of(&place);
        self.step(&path, TraceStep::Remove)?;
        self.see(&place, None);
        self.change(id, Change::Remove(place));
        Ok(())
    }

    fn see(&mut self, place: &Place, id: Option<NodeId>) {
        let names = &mut self.node_mut(place.0).directory_mut().expect("checked").visible;
        match id {
            Some(id) => names.insert(Arc::clone(&place.1), id),
            None => names.remove(&place.1),
        };
    }

    fn change(&mut self, node: NodeId, what: Change) {
        let unit = self.unit();
        self.names.push(NameChange { unit, node, what });
    }

    /// Makes the names in a directory durable. Counts as an operation only if any is not.
    pub(super) fn sync_directory(&mut self, id: NodeId) -> io::Result<()> {
        self.check()?;
        self.node(id).directory().ok_or(io::ErrorKind::NotADirectory)?;
        let last = self.names.iter().rposition(|change| change.touches(id));
        if last.is_some() {
            let path = self.path(id);
            self.step(&path, TraceStep::SyncDirectory)?;
        }
        if self.strikes(FaultKind::DirectorySyncError, id) {
            return Err(Errno::Io.into());
        }
        let Some(last) = last else { return Ok(()) };
        if self.strikes(FaultKind::FalseDirectorySync, id) {
            return Ok(());
        }
        let journaled = self.options.name_order == NameOrder::Journaled;
        let covered = |(index, change): &(usize, NameChange)| {
            if journaled { *index <= last } else { change.touches(id) }
        };
        let (covered, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.names).into_iter().enumerate().partition(covered);
        self.names = left.into_iter().map(|(_, change)| change).collect();
        for (_, change) in covered {
            self.make_durable(&change);
        }
        self.forget_nameless();
        Ok(())
    }

    /// All of them, in every directory.
    pub(super) fn make_names_durable(&mut self) {
        for change in std::mem::take(&mut self.names) {
            self.make_durable(&change);
        }
        self.forget_nameless();
    }

    /// Applies a change to the durable names. A node never has two names.
    pub(super) fn make_durable(&mut self, change: &NameChange) {
        let id = change.node;
        match &change.what {
            Change::Create(place) => self.keep(place, id),
            Change::Remove((at, name)) => {
                if let Some(directory) = self.nodes.get_mut(at).and_then(Node::directory_mut)
                    && directory.durable.get(name) == Some(&id)
                {
                    directory.durable.remove(name);
                }
            }
            Change::Rename(_, to) => {
                for directory in self.nodes.values_mut().filter_map(Node::directory_mut) {
                    directory.durable.retain(|_, linked| *linked != id);
                }
                self.keep(to, id);
            }
        }
    }

    fn keep(&mut self, (at, name): &Place, id: NodeId) {
        if let Some(directory) = self.nodes.get_mut(at).and_then(Node::directory_mut) {
            directory.durable.insert(Arc::clone(name), id);
        }
    }

    /// What has a name, which is durable from now on; a new file if nothing has it.
    pub(super) fn make_name_durable(&mut self, place: &Place) -> NodeId {
        let id = match self.at(place) {
            Some(id) => id,
            None => {
                let (path, content) = (self.path_of(place), Content::File(FileNode::default()));
                let id = self.next_node;
                self.next_node += 1;
                self.nodes.insert(id, Node { path, draws: 0, content });
                self.see(place, Some(id));
                id
            }
        };
        self.names.retain(|change| change.node != id);
        self.make_durable(&NameChange {
            unit: UnitId(0),
            node: id,
            what: Change::Rename(place.clone(), place.clone()),
        });
        id
    }

    /// Takes a name away, durably.
    pub(super) fn lose_name(&mut self, place: &Place) {
        let id = self.at(place);
        self.see(place, None);
        self.names.retain(|change| Some(change.node) != id);
        if let Some(directory) = self.node_mut(place.0).directory_mut() {
            directory.durable.remove(&place.1);
        }
        self.forget_nameless();
    }

    /// Forgets nodes that nothing can lead to any more.
    pub(super) fn forget_nameless(&mut self) {
        let mut used = vec![ROOT];
        for node in self.nodes.values() {
            if let Some(directory) = node.directory() {
                used.extend(directory.visible.values());
                used.extend(directory.durable.values());
            }
        }
        for change in &self.names {
            used.push(change.node);
            match &change.what {
                Change::Create((at, _)) | Change::Remove((at, _)) => used.push(*at),
                Change::Rename((from, _), (to, _)) => used.extend([*from, *to]),
            }
        }
        used.extend(self.flights.iter().map(|flight| flight.node));
        used.extend(self.locks.keys());
        used.sort_unstable();
        self.nodes.retain(|id, node| {
            let open = node.file().is_some_and(|file| !file.handles.is_empty());
            open || used.binary_search(id).is_ok()
        });
    }
}
