//! The testee of protobuf's conformance suite: requests on standard input, answers on standard output, each behind its
//! length in four little-endian bytes. Started by the runner; see `tests/conformance/protobuf.sh`.

use std::io::{self, Read, Write};

use portico_conformance::Testee;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let testee = Testee::new()?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Some(request) = next_request(&mut input)? {
        let answer = testee.answer_bytes(&request);
        output.write_all(&u32::try_from(answer.len())?.to_le_bytes())?;
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

/// The next request, or none when the runner has closed the pipe.
fn next_request(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut request = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut request)?;
    Ok(Some(request))
}
