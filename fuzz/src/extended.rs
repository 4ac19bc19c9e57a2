//! Messages between our own nodes.

use receptor_core::wire::extended::{
    FRAME_TARGET, Message, advert_frames, link_state_frames, messages, request_frames, summary_frames,
};

/// What parses is written in a form that means the same, alone and through the functions that split.
pub fn extended(frame: &[u8]) {
    for result in messages(frame) {
        let Ok(message) = result else { continue };
        match &message {
            Message::Unknown { .. } => continue,
            Message::LinkState(body) => assert_eq!(link_state_frames(FRAME_TARGET, &body.records).left_out, 0),
            Message::Adverts(body) => assert_eq!(advert_frames(FRAME_TARGET, &body.adverts).left_out, 0),
            Message::Summary(body) => {
                assert_eq!(
                    summary_frames(FRAME_TARGET, body.nodes.clone(), body.adverts.clone()).left_out,
                    0
                );
            }
            Message::Request(body) => {
                assert_eq!(
                    request_frames(FRAME_TARGET, body.nodes.clone(), body.adverts.clone()).left_out,
                    0
                );
            }
            _ => {}
        }
        let written = message.to_frame().expect("a parsed message can be written");
        assert_eq!(messages(&written).collect::<Vec<_>>(), [Ok(message)]);
    }
}
