//! twilight's side: the plain HTTP request that the documentation of its queues shows, and its gateway
//! crate with a queue that asks weir.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_websockets::{Message, ServerBuilder};
use twilight_gateway::{ConfigBuilder, Intents, Shard, ShardId};
use twilight_gateway_queue::Queue;

use super::support::TOKEN;
use super::support::queue::{FREE, Stage};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn the_documented_request_is_answered_when_the_shard_may_go() {
    let stage = Stage::start(1);
    let queue = stage.queue();
    runtime().block_on(async {
        let began = Instant::now();
        let answer = reqwest::get(format!("http://{queue}")).await.unwrap();
        assert!(answer.status().is_success());
        assert_eq!(answer.text().await.unwrap(), FREE);
        let answer = reqwest::get(format!("http://{queue}?shard=42"))
            .await
            .unwrap();
        assert!(answer.status().is_success());
        assert!(began.elapsed() >= Duration::from_secs(5));
    });
}

/// A queue of twilight's that asks weir.
#[derive(Clone, Debug)]
struct AsksWeir {
    queue: SocketAddr,
    client: reqwest::Client,
}

impl Queue for AsksWeir {
    fn enqueue(&self, shard: u32) -> oneshot::Receiver<()> {
        let (free, receiver) = oneshot::channel();
        let url = format!("http://{}/?shard={shard}", self.queue);
        let request = self.client.get(url).header("Authorization", TOKEN);
        tokio::spawn(async move {
            // Dropped without a word, the shard asks again.
            if let Ok(answer) = request.send().await
                && answer.status().is_success()
            {
                let _ = free.send(());
            }
        });
        receiver
    }
}

/// Says hello to each shard, and notes when which one identifies itself.
async fn gateway(listener: TcpListener, seen: Arc<Mutex<Vec<(u64, Instant)>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            let (_, mut socket) = ServerBuilder::new().accept(stream).await.unwrap();
            let hello = r#"{"op":10,"s":null,"t":null,"d":{"heartbeat_interval":45000}}"#;
            socket.send(Message::text(hello)).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                let Some(text) = message.as_text() else {
                    continue;
                };
                let event: serde_json::Value = serde_json::from_str(text).unwrap();
                if event["op"] == 2 {
                    let shard = event["d"]["shard"][0].as_u64().unwrap();
                    seen.lock().unwrap().push((shard, Instant::now()));
                }
            }
        });
    }
}

#[test]
fn twilights_shards_identify_in_rounds_through_a_queue_that_asks_weir() {
    const SHARDS: u32 = 6;
    let stage = Stage::start(4);
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(gateway(listener, seen.clone()));
        let queue = AsksWeir {
            queue: stage.queue(),
            client: reqwest::Client::new(),
        };
        for number in 0..SHARDS {
            let config = ConfigBuilder::new(TOKEN.to_owned(), Intents::empty())
                .proxy_url(url.clone())
                .queue(queue.clone())
                .build();
            let mut shard = Shard::with_config(ShardId::new(number, SHARDS), config);
            tokio::spawn(async move { while shard.next().await.is_some() {} });
        }
        let until = Instant::now() + Duration::from_secs(20);
        while seen.lock().unwrap().len() < SHARDS as usize {
            assert!(Instant::now() < until, "{:?}", seen.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = seen.lock().unwrap();
        let mut first: Vec<_> = seen[..4].iter().map(|(shard, _)| shard % 4).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        for (later, at) in &seen[4..] {
            let before = seen[..4].iter().find(|(shard, _)| shard % 4 == later % 4);
            let gap = *at - before.unwrap().1;
            assert!(gap >= Duration::from_millis(5_000), "{gap:?}");
        }
    });
}
