//! The largest frames, and what no frame can carry.

use futures_util::StreamExt;
use portico::port::fleet::{FRAME_BYTES_MAX, Frame};
use serde_json::json;

use super::{House, PATIENCE};

on_every_fleet! {
    the_largest_frames_pass_both_ways_however_they_are_written,
    what_an_agent_says_and_no_frame_can_carry_is_told_and_ends_nothing,
}

async fn the_largest_frames_pass_both_ways_however_they_are_written(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    let mut largest = vec![0; FRAME_BYTES_MAX];
    largest[0] = 1;
    client.to_agent.send(Ok(Frame::Binary(largest.clone().into()))).await.unwrap();
    largest.reverse();
    let answer = tokio::time::timeout(PATIENCE, client.from_agent.next()).await.unwrap().unwrap().unwrap();
    assert!(answer == Frame::Binary(largest.into()), "{} bytes", answer.len());

    // The agent writes each of these with six letters, so that the packet is larger than any frame.
    let text = "é".repeat(FRAME_BYTES_MAX / 6 + (1 << 20));
    assert!(client.answer(&text).await == json!(text));
}

async fn what_an_agent_says_and_no_frame_can_carry_is_told_and_ends_nothing(house: House) {
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    client.ask(&format!("huge {}", FRAME_BYTES_MAX + 1)).await;
    let [created, binary, complete] = [client.next().await, client.next().await, client.next().await];
    for told in [&binary, &complete] {
        assert_eq!((&told["type"], &told["content"]["code"]), (&json!("error"), &json!("frame_too_large")));
    }
    assert_eq!((&binary["message_id"], &complete["message_id"]), (&json!(null), &created["message_id"]));
    assert_eq!(client.answer("still there?").await, json!("still there?"));
}
