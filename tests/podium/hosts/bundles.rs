//! Bundles that hosts fetch from S3: the whole digest decides what runs, and one fetch serves all who wait.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use portico::base::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::PATH;
use crate::support::{
    hosts::{Cluster, Plan},
    minio::{self, BUCKET, PASSWORD, USER},
};

/// A line to a store, and what was said on it.
struct Watched {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Watched {
    async fn to(store: SocketAddr) -> Watched {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let (tasks, noted) = (Tasks::new(), Arc::clone(&heard));
        let carried = tasks.clone();
        let _ends_with_the_runtime = tasks.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // A store that is away refuses.
                let Ok(far) = TcpStream::connect(store).await else { continue };
                let _ends_by_itself = carried.spawn(carry(near, far, Arc::clone(&noted)));
            }
        });
        Watched { address, heard }
    }

    /// The store's URL over this line.
    fn url(&self) -> String {
        format!("s3://{BUCKET}/agents?endpoint=http://{}", self.address)
    }

    /// How often an object whose key has this in it was fetched.
    fn fetched(&self, part: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        let text = String::from_utf8_lossy(&heard);
        text.lines().filter(|line| line.starts_with("GET /") && line.contains(part)).count()
    }
}

async fn carry(near: TcpStream, far: TcpStream, heard: Arc<Mutex<Vec<u8>>>) {
    let ((mut asks, mut hears), (mut answers, mut asked)) = (near.into_split(), far.into_split());
    let there = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = asks.read(&mut buffer).await {
            heard.lock().unwrap().extend_from_slice(&buffer[..count]);
            if asked.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _gone = asked.shutdown().await.is_err();
    };
    let back = async {
        let _gone = tokio::io::copy(&mut answers, &mut hears).await.is_err();
        let _gone = hears.shutdown().await.is_err();
    };
    tokio::join!(there, back);
}

/// Uploads a version while the only host is away, so that it has to be fetched when it is wanted.
async fn upload_unseen(cluster: &mut Cluster, version: &str) -> String {
    cluster.host("host-0").line.cut().await;
    let deployment = cluster.upload(version).await;
    cluster.host("host-0").line.join().await;
    cluster.until("/health", |it| it["checks"]["coordinators"]["healthy"] == 1).await;
    deployment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_fetches_a_bundle_from_s3_once_however_many_instances_start_at_once() {
    let store = minio::minio();
    let line = Watched::to(store.address()).await;
    let plan = Plan { hosts: 1, instances_max: 8, blobs: Some((&line.url(), [USER, PASSWORD])), ..Plan::default() };
    let mut cluster = Cluster::of(plan).await;
    let deployment = upload_unseen(&mut cluster, "2.0.0").await;
    let before = line.fetched("echo-2.0.0");
    let ids = ["a", "b", "c", "d", "e", "f"];
    for made in join_all(ids.map(|id| cluster.create_of(&deployment, id))).await {
        assert_eq!(made.expect(201)["coordinator_id"], "host-0");
    }
    assert_eq!(line.fetched("echo-2.0.0") - before, 1);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_runs_no_other_bytes_than_were_uploaded_and_waits_for_a_store_that_is_away() {
    let mut store = minio::minio();
    let line = Watched::to(store.address()).await;
    let plan = Plan { hosts: 1, instances_max: 8, blobs: Some((&line.url(), [USER, PASSWORD])), ..Plan::default() };
    let mut cluster = Cluster::of(plan).await;

    let deployment = upload_unseen(&mut cluster, "2.0.0").await;
    let client = minio::client(&store);
    let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let key =
        listed.contents().iter().filter_map(|it| it.key()).find(|key| key.ends_with("echo-2.0.0.tar.gz")).unwrap();
    let object = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
    let (metadata, right) = (object.metadata.clone(), object.body.collect().await.unwrap().into_bytes());
    let put = async |bytes: Vec<u8>| {
        let put = client.put_object().bucket(BUCKET).key(key).set_metadata(metadata.clone());
        put.body(bytes.into()).send().await.unwrap();
    };
    // As long as the right ones, a whole archive, and beside the word of the first that they are those.
    let mut wrong = right.to_vec();
    wrong[5] ^= 1;
    put(wrong).await;
    let refused = cluster.create_of(&deployment, "mine").await;
    assert_eq!(refused.refusal(), (502, "deployment_failed".to_owned()));
    let gone = cluster.house.ask(&cluster.tenant, "GET", &format!("{PATH}/mine")).send().await;
    assert_eq!(gone.refusal(), (404, "instance_not_found".to_owned()));
    put(right.to_vec()).await;
    cluster.create_of(&deployment, "mine").await.expect(201);

    let cold = upload_unseen(&mut cluster, "3.0.0").await;
    store.kill();
    let refused = cluster.create_of(&cold, "cold").await;
    assert_eq!(refused.refusal(), (503, "storage_unavailable".to_owned()));
    assert_ne!(refused.header("retry-after"), "");
    // The host is well: what it has, it starts.
    cluster.create_of(&deployment, "warm").await.expect(201);
    store.restart();
    cluster.create_of(&cold, "cold").await.expect(201);
    cluster.close().await;
}
