//! twilight-http through weir: `.proxy(host, true).ratelimiter(None)`, so that weir alone keeps
//! the limits.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use twilight_http::Client;
use twilight_http::api_error::ApiError;
use twilight_http::error::ErrorType;
use twilight_http::request::channel::reaction::RequestReactionType;
use twilight_model::http::attachment::Attachment;
use twilight_model::http::interaction::{
    InteractionResponse, InteractionResponseData, InteractionResponseType,
};
use twilight_model::id::Id;
use twilight_model::id::marker::{ApplicationMarker, ChannelMarker, UserMarker, WebhookMarker};

use super::stage::{BOT_TOKEN, BURST};

// Each purpose has a channel of its own, so that no step drains the bucket of another.
const CHANNEL: Id<ChannelMarker> = Id::new(300_000_000_000_000_001);
const BURST_CHANNEL: Id<ChannelMarker> = Id::new(300_000_000_000_000_002);
const APPLICATION: Id<ApplicationMarker> = Id::new(300_000_000_000_000_010);
const WEBHOOK: Id<WebhookMarker> = Id::new(300_000_000_000_000_012);
const USER: Id<UserMarker> = Id::new(300_000_000_000_000_020);
const UNKNOWN_MESSAGE: u64 = 300_000_000_000_000_404;

/// Between the sends of the burst: long enough that requests arrive in the order in which they
/// were sent, although each has a connection of its own.
const STAGGER: Duration = Duration::from_millis(50);

/// A 5-per-5-s bucket lets 20 requests through in no less than 15 s. Less means that nothing was
/// limited, and the test shows nothing.
const BURST_TIME_MIN: Duration = Duration::from_secs(13);

/// Plays the scenario against the proxy at `proxy`; panics at the first step that fails.
pub(super) fn play(proxy: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::builder()
            .proxy(proxy.to_string(), true)
            .ratelimiter(None)
            // The default of 10 s is less than the burst's last message waits in the queue.
            .timeout(Duration::from_secs(60))
            .token(BOT_TOKEN.to_owned())
            .build();
        messages_reactions_and_reads(&client).await;
        webhook_and_interaction(&client).await;
        burst(&client).await;
    });
}

async fn messages_reactions_and_reads(client: &Client) {
    assert!(
        client
            .current_user()
            .await
            .unwrap()
            .model()
            .await
            .unwrap()
            .bot
    );

    let sent = client
        .create_message(CHANNEL)
        .content("of twilight")
        .await
        .unwrap();
    let message = sent.model().await.unwrap();
    assert_eq!(
        (message.content.as_str(), message.channel_id),
        ("of twilight", CHANNEL)
    );

    // 256 KiB that no text encoding survives.
    let bytes: Vec<u8> = (0..256 * 1024).map(|i| (i % 256) as u8).collect();
    let files = [
        Attachment::from_bytes("bytes.bin".to_owned(), bytes, 0),
        Attachment::from_bytes("short.txt".to_owned(), b"short".to_vec(), 1),
    ];
    let sent = client
        .create_message(CHANNEL)
        .content("with files")
        .attachments(&files)
        .await;
    let with_files = sent.unwrap().model().await.unwrap();
    assert!(with_files.id > message.id);
    let attachments: Vec<_> = with_files
        .attachments
        .iter()
        .map(|a| (a.filename.as_str(), a.size))
        .collect();
    assert_eq!(attachments, [("bytes.bin", 256 * 1024), ("short.txt", 5)]);

    let thumb = RequestReactionType::Unicode { name: "👍" };
    let custom = RequestReactionType::Custom {
        id: Id::new(300_000_000_000_000_099),
        name: Some("weir"),
    };
    client
        .create_reaction(CHANNEL, message.id, &thumb)
        .await
        .unwrap();
    client
        .create_reaction(CHANNEL, message.id, &custom)
        .await
        .unwrap();
    client
        .reactions(CHANNEL, message.id, &thumb)
        .await
        .unwrap()
        .models()
        .await
        .unwrap();
    client
        .delete_current_user_reaction(CHANNEL, message.id, &thumb)
        .await
        .unwrap();
    client
        .delete_all_reactions(CHANNEL, message.id)
        .await
        .unwrap();

    assert_eq!(
        client
            .channel(CHANNEL)
            .await
            .unwrap()
            .model()
            .await
            .unwrap()
            .id,
        CHANNEL
    );
    let read = client
        .message(CHANNEL, message.id)
        .await
        .unwrap()
        .model()
        .await
        .unwrap();
    assert_eq!(read.id, message.id);
    let history = client
        .channel_messages(CHANNEL)
        .limit(2)
        .await
        .unwrap()
        .models()
        .await
        .unwrap();
    assert!(history.iter().all(|m| m.channel_id == CHANNEL));
    assert_eq!(
        client.user(USER).await.unwrap().model().await.unwrap().id,
        USER
    );

    let error = client
        .message(CHANNEL, Id::new(UNKNOWN_MESSAGE))
        .await
        .unwrap_err();
    match error.kind() {
        ErrorType::Response {
            error: ApiError::General(general),
            status,
            ..
        } => {
            assert_eq!((general.code, status.get()), (10_008, 404));
        }
        other => panic!("an unknown message gave {other:?}"),
    }

    let edit = client
        .update_message(CHANNEL, message.id)
        .content(Some("edited"));
    assert_eq!(edit.await.unwrap().model().await.unwrap().content, "edited");
    client.delete_message(CHANNEL, message.id).await.unwrap();
}

async fn webhook_and_interaction(client: &Client) {
    let token = format!("token-of-a-webhook_{}", "w".repeat(49));
    let said = client
        .execute_webhook(WEBHOOK, &token)
        .content("by webhook")
        .wait()
        .await
        .unwrap();
    assert_eq!(said.model().await.unwrap().content, "by webhook");

    let pong = InteractionResponse {
        kind: InteractionResponseType::ChannelMessageWithSource,
        data: Some(InteractionResponseData {
            content: Some("pong".to_owned()),
            ..InteractionResponseData::default()
        }),
    };
    client
        .interaction(APPLICATION)
        .create_response(
            Id::new(300_000_000_000_000_011),
            "aW50ZXJhY3Rpb246-of-the-real-clients",
            &pong,
        )
        .await
        .unwrap();
}

/// Twenty messages to one channel, all under way at once.
async fn burst(client: &Client) {
    let start = Instant::now();
    let mut sends = Vec::new();
    for seq in 0..BURST {
        let content = format!("client:burst seq:{seq}");
        let send = client
            .create_message(BURST_CHANNEL)
            .content(&content)
            .into_future();
        sends.push(tokio::spawn(async move {
            send.await.unwrap().model().await.unwrap().id
        }));
        tokio::time::sleep(STAGGER).await;
    }
    let mut ids = Vec::new();
    for send in sends {
        ids.push(send.await.unwrap());
    }
    // Discord hands out ids in the order of arrival.
    assert!(
        ids.is_sorted_by(|a, b| a < b),
        "messages arrived out of order: {ids:?}"
    );
    let took = start.elapsed();
    assert!(
        took >= BURST_TIME_MIN,
        "{BURST} messages took {took:?}: nothing limited them"
    );
}
