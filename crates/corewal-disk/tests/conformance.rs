//! What every disk and every ring must do. A new tenant joins with one line at the end.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

#[path = "conformance/disks.rs"]
mod disks;
#[path = "conformance/locks.rs"]
mod locks;
#[path = "conformance/rings.rs"]
mod rings;
#[path = "conformance/subject.rs"]
mod subject;

/// One module of tests for a tenant; the expression gives its [`subject::Subject`], or `None` where
/// it cannot be had.
macro_rules! tenant {
    ($tenant:ident, $subject:expr) => {
        mod $tenant {
            tenant! { @ $subject;
                disks:
                    a_new_file_is_created_once,
                    a_file_that_is_not_there_is_not_found,
                    an_absent_directory_is_not_found,
                    a_directory_may_be_created_twice,
                    the_list_has_files_and_directories,
                    reading_stops_at_the_end,
                    direct_reading_stops_at_an_unaligned_end,
                    allocated_space_has_the_length_and_zeros,
                    allocation_never_shortens,
                    renaming_replaces,
                    removing_twice_is_no_error,
                    a_dropped_cache_loses_nothing,
                    syncs_succeed,
                    the_clock_does_not_go_back;
                locks:
                    a_held_lock_names_its_holder,
                    a_shorter_holder_replaces_a_longer_one,
                    a_dropped_lock_is_free,
                    a_clone_keeps_the_lock,
                    a_ring_keeps_the_lock_until_it_is_drained,
                    a_ring_keeps_the_lock_until_it_is_dropped;
                rings:
                    writes_read_back,
                    a_write_that_is_awaited_is_complete,
                    completions_are_told_apart_by_token,
                    a_full_ring_gives_the_operation_back,
                    large_writes_complete_once,
                    many_large_writes_share_the_ring,
                    a_sync_returns_nothing,
                    places_are_used_again,
                    the_pool_ends,
                    a_block_of_another_pool_is_written,
                    a_failed_write_returns_its_block,
                    a_failure_does_not_spread,
                    an_unknown_slot_panics,
                    a_released_slot_panics,
                    a_token_in_flight_panics,
                    a_length_beyond_the_block_panics,
                    an_empty_write_panics,
                    a_released_file_stays_until_it_is_reaped,
                    more_files_than_the_kernel_registers,
                    draining_returns_everything,
                    dropping_lands_what_was_submitted,
                    dropping_lands_what_still_waits_for_room,
                    dropping_forgets_what_was_not_submitted,
                    waiting_for_nothing_returns,
                    nothing_to_do_makes_no_call,
                    a_raised_alarm_ends_the_wait,
                    completions_raise_the_alarm,
                    a_raised_alarm_is_no_completion;
            }
        }
    };
    (@ $subject:expr; $($group:ident: $($check:ident),+;)+) => {
        $($(
            #[test]
            fn $check() {
                if let Some(subject) = $subject {
                    crate::$group::$check(&subject);
                }
            }
        )+)+
    };
}

tenant!(blocking, crate::subject::Subject::blocking());
#[cfg(target_os = "linux")]
tenant!(uring, crate::subject::Subject::uring());
tenant!(simulated, crate::subject::Subject::simulated());
tenant!(simulated_blocking, crate::subject::Subject::simulated_blocking());
tenant!(
    recorded_blocking,
    crate::subject::Subject::blocking().map(crate::subject::Subject::recorded)
);
#[cfg(target_os = "linux")]
tenant!(recorded_uring, crate::subject::Subject::uring().map(crate::subject::Subject::recorded));
