//! The reserve on a full disk: what is kept for barriers, nothing else may use up.

use std::sync::Arc;

use corewal::{AppendError, Kind, Log, Options, Preparing};
use corewal_disk::sim::{SimDisk, SimOptions};

/// History 24: a shard that vouches again and again on a full disk must leave room for its barriers; else no
/// epoch could be closed, no checkpoint taken, and no space would ever come back.
#[test]
fn vouches_leave_room_for_barriers() {
    for bound in [1_u32, 2] {
        let disk = Arc::new(SimDisk::with(SimOptions::new(1).capacity(240 << 10)));
        let options = Options::new("/log")
            .disk(disk)
            .preparing(Preparing::Manual)
            .block_len(512)
            .segment_len(4096)
            .first_segment_len(4096)
            .write_len(1024)
            .max_batch(2048)
            .max_record(512)
            .pipeline_bound(bound);
        let mut log = Log::recover(options).unwrap().open().unwrap();
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        let refused = loop {
            match writer.append_bytes(Kind::PUT, &[7; 300]) {
                Ok(stamp) => writer.wait(stamp).unwrap(),
                Err(AppendError::Full) => {
                    log.prepare();
                    writer.turn().unwrap();
                }
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, AppendError::NoSpace(_)), "{refused}");
        for _ in 0..20 {
            writer.seal_promises();
            writer.sync().unwrap();
            writer.turn().unwrap();
        }
        for _ in 0..bound {
            let epoch = writer.close_epoch().expect("room for the barriers of the bound is kept");
            writer.sync().unwrap();
            assert_eq!(log.committed_epoch(), epoch);
        }
        writer.close().unwrap();
        log.close().unwrap();
    }
}
