//! Puts a file into a bucket with the SDK that the gateway uses, and as it does: in parts of 8 MiB, two on their way while
//! the next one is read. What an upload through the gateway is measured against.
//!
//! Prints the seconds that it took.

use std::{env, io::Read, time::Instant};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
    types::{CompletedMultipartUpload, CompletedPart},
};
use portico_peers::{Result, words};
use tokio::task::JoinSet;

const PART_BYTES: u64 = 8 << 20;
const PARTS_IN_FLIGHT: usize = 2;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let [endpoint, bucket, key, file] = words("put ENDPOINT BUCKET KEY FILE")?;
    let (id, secret) = (env::var("AWS_ACCESS_KEY_ID")?, env::var("AWS_SECRET_ACCESS_KEY")?);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(id, secret, None, None, "the environment"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    let client = Client::from_conf(config);
    let mut file = std::fs::File::open(file)?;
    let started = Instant::now();
    let upload = client.create_multipart_upload().bucket(&bucket).key(&key).send().await?;
    let id = upload.upload_id().ok_or("an upload without an id")?.to_owned();
    let (mut parts, mut in_flight) = (Vec::new(), JoinSet::new());
    loop {
        let mut part = Vec::with_capacity(PART_BYTES as usize);
        file.by_ref().take(PART_BYTES).read_to_end(&mut part)?;
        if part.is_empty() {
            break;
        }
        if in_flight.len() >= PARTS_IN_FLIGHT {
            parts.extend(in_flight.join_next().await.transpose()?.transpose()?);
        }
        let number = (parts.len() + in_flight.len() + 1) as i32;
        let send = client.upload_part().bucket(&bucket).key(&key).upload_id(&id).part_number(number).body(part.into());
        in_flight.spawn(async move {
            let sent = send.send().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build(),
            )
        });
    }
    while let Some(part) = in_flight.join_next().await {
        parts.push(part??);
    }
    parts.sort_by_key(CompletedPart::part_number);
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    client.complete_multipart_upload().bucket(&bucket).key(&key).upload_id(&id).multipart_upload(parts).send().await?;
    println!("{}", started.elapsed().as_secs_f64());
    Ok(())
}
