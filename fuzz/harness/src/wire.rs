//! Frames of relays and subscribers.

use crate::input::Input;
use dichroic_wire::{
    CollectorHello, FrameReader, FrameType, Hello, Plan, PlanReply, RelayHello, SubscriberHello, text,
};

#[path = "../../../collector/wire/tests/common/rewrite.rs"]
#[allow(dead_code, reason = "the tests of the wire crate use the rest")]
mod rewrite;

/// Largest body that the reader accepts in this target.
const MAX_BODY: u32 = 1 << 16;

/// A stream of frames, in pieces of any size. Every accepted frame re-encodes unchanged.
///
/// Options: the size of the pieces, and whether the reader waits for HELLO.
pub fn wire_frames(data: &[u8]) {
    let mut input = Input(data);
    let options = input.byte();
    let mut reader = FrameReader::new();
    if options & 0x80 == 0 {
        reader.hello_accepted(MAX_BODY);
    }
    for piece in input.0.chunks(1 + usize::from(options & 0x7f) * 4) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    let mut whole = Vec::new();
                    frame.write(&mut whole).expect("a frame that was read");
                    read(frame.frame_type, frame.body);
                    let _ = text::render(frame);
                    if let Ok(again) = rewrite::rewrite(&whole) {
                        assert_eq!(again.as_deref(), Some(&whole[..]));
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn read(frame_type: FrameType, body: &[u8]) {
    match frame_type {
        FrameType::Hello => {
            if let Ok(hello) = Hello::decode(body) {
                let _ = (
                    RelayHello::read(&hello),
                    SubscriberHello::read(&hello),
                    CollectorHello::read(&hello),
                );
            }
        }
        FrameType::Plan => {
            let _ = PlanReply::decode(body);
            if let Ok(plan) = Plan::decode(body) {
                let mut out = Vec::new();
                plan.write(&mut out).expect("a plan that was read");
                assert_eq!(Plan::decode(rewrite::body(&out)), Ok(plan));
            }
        }
        _ => {}
    }
}
