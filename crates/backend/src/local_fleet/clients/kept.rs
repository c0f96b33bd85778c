//! What was sent lately, for clients that come back.
//!
//! A newcomer's usual mistake is to take this for a history. It is a bridge over a connection that broke; who was away for
//! longer sees a gap in the numbers, and reads the messages.
//!
//! *Knows:* frames and their numbers. *Does not know:* clients.

use std::collections::VecDeque;

use portico_port::fleet::Frame;

/// Most frames that are kept.
const FRAMES_MAX: usize = 1_000;
/// Most bytes that are kept. A larger frame is not, nor what came before it: a gap has one end.
const BYTES_MAX: usize = 1 << 20;

/// The last frames of one instance.
#[derive(Default)]
pub(super) struct Kept {
    frames: VecDeque<(u64, Frame)>,
    bytes: usize,
}

impl Kept {
    /// Keeps a frame, and lets go of the oldest ones.
    pub(super) fn add(&mut self, sequence: u64, frame: Frame) {
        self.bytes += frame.len();
        self.frames.push_back((sequence, frame));
        while self.frames.len() > FRAMES_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.frames.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }

    /// The frames after this one, as far as they are kept.
    pub(super) fn after(&self, sequence: u64) -> Vec<Frame> {
        let first = self.frames.partition_point(|(number, _)| *number <= sequence);
        self.frames.range(first..).map(|(_, frame)| frame.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(letters: usize) -> Frame {
        Frame::Text("x".repeat(letters).into())
    }

    #[test]
    fn the_last_frames_are_kept_by_count_and_by_size() {
        let mut kept = Kept::default();
        (1..=1_005).for_each(|number| kept.add(number, text(1)));
        assert_eq!((kept.after(0).len(), kept.after(1_000).len(), kept.after(9_999).len()), (FRAMES_MAX, 5, 0));
        kept.add(1_006, text(BYTES_MAX));
        assert_eq!(kept.after(0).len(), 1);
        kept.add(1_007, text(1));
        assert_eq!((kept.after(0).len(), kept.bytes), (1, 1));
        kept.add(1_008, text(BYTES_MAX + 1));
        assert_eq!((kept.after(0).len(), kept.bytes), (0, 0));
    }
}
