//! Mutated golden frames: decoders do not panic, and every accepted frame re-encodes byte for byte. This replaces a fuzzer: the seed is
//! fixed, so runs are reproducible.

mod common;

use common::{goldens, reader_after_hello, rewrite};
use dichroic_wire::{CollectorHello, FrameType, Hello, Plan, PlanReply, RelayHello, SubscriberHello, text};

const MUTATIONS_PER_GOLDEN: usize = 3_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// One to three changes. The length in the header is corrected, otherwise only lengths would be tested.
fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xf8, 0xfe, 0xff];
    for _ in 0..=random.below(3) {
        let at = 4 + random.below(frame.len() - 4);
        match random.below(6) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame[at] = EDGES[random.below(EDGES.len())],
            2 => frame[at] = random.next() as u8,
            3 => frame.truncate(at.max(5)),
            4 => frame.insert(at, random.next() as u8),
            _ => {
                let from = 4 + random.below(frame.len() - 4);
                let piece = frame[from.min(at)..from.max(at)].to_vec();
                frame.splice(at..at, piece);
            }
        }
    }
    let body = frame.len() as u32 - 5;
    frame[..4].copy_from_slice(&body.to_le_bytes());
}

/// Calls every typed reader; they must not panic.
fn read_every_way(frame: &[u8]) {
    let mut reader = reader_after_hello();
    reader.push(frame);
    let Ok(Some(raw)) = reader.next() else { return };
    let _ = text::render(raw);
    match raw.frame_type {
        FrameType::Hello => {
            if let Ok(hello) = Hello::decode(raw.body) {
                let _ = (
                    RelayHello::read(&hello),
                    SubscriberHello::read(&hello),
                    CollectorHello::read(&hello),
                );
            }
        }
        FrameType::Plan => {
            let _ = PlanReply::decode(raw.body);
            if let Ok(plan) = Plan::decode(raw.body) {
                let mut out = Vec::new();
                plan.write(&mut out).expect("a plan that was read");
                assert_eq!(Plan::decode(common::body(&out)), Ok(plan));
            }
        }
        _ => {}
    }
}

#[test]
fn accepted_mutated_frames_reencode_unchanged() {
    let mut random = Random(20_260_101);
    let (mut accepted, mut rejected) = (0, 0);
    for (name, golden) in goldens() {
        for number in 0..MUTATIONS_PER_GOLDEN {
            let mut frame = golden.clone();
            mutate(&mut frame, &mut random);
            read_every_way(&frame);
            match rewrite(&frame) {
                Ok(again) => {
                    assert_eq!(
                        again.as_deref(),
                        Some(&frame[..]),
                        "{name} mutation {number}: {frame:02x?}"
                    );
                    accepted += 1;
                }
                Err(_) => rejected += 1,
            }
        }
    }
    // Both must be frequent, otherwise the mutations test nothing.
    assert!(
        accepted > 5_000 && rejected > 20_000,
        "{accepted} accepted, {rejected} rejected"
    );
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut frame = vec![0; 5];
        frame.extend((0..random.below(80)).map(|_| random.below(12) as u8));
        let body = frame.len() as u32 - 5;
        frame[..4].copy_from_slice(&body.to_le_bytes());
        frame[4] = 1 + random.below(12) as u8;
        read_every_way(&frame);
        if let Ok(again) = rewrite(&frame) {
            assert_eq!(again.as_deref(), Some(&frame[..]), "{frame:02x?}");
        }
    }
}
