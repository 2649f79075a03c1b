//! The gradient of an embedding table against the host's.

use crate::client::{client, download, upload, upload_words};
use crate::oracle::random;
use cubecl_kernels::KernelError;
use cubecl_kernels::embedding::embedding_backward;
use cubecl_kernels::host;

/// Tokens that repeat, all alike, one alone, none; widths that are no multiple of four.
#[test]
fn a_tokens_rows_are_summed_in_their_order() {
    let client = client();
    for (rows, vocab, width) in
        [(0, 3, 5), (1, 1, 1), (7, 3, 4), (64, 5, 33), (300, 1000, 131), (513, 2, 8), (5, 4, 0)]
    {
        let name = format!("{rows} rows, {vocab} tokens, width {width}");
        let tokens: Vec<u32> = (0..rows as u32).map(|i| i * i * 7 % vocab as u32).collect();
        let dy = random(rows as u64, rows * width);
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let expected = host::embedding_backward(&dy, &ids, vocab, width).unwrap();
        let (dy, tokens) = (upload(&client, &dy), upload_words(&client, &tokens));
        let run = || {
            let table = embedding_backward(&client, &dy, &tokens, rows, vocab, width).unwrap();
            download(&client, &table, vocab * width)
        };
        let actual = run();
        // The order of the terms is the host's, and so are the bits.
        assert_eq!(actual, expected, "{name}");
        assert_eq!(run(), actual, "{name}, again");
    }
}

#[test]
fn a_token_outside_the_table_adds_to_nothing() {
    let client = client();
    let dy = upload(&client, &[1.0, 2.0, 3.0, 4.0]);
    let tokens = upload_words(&client, &[1, u32::MAX, 2, 1]);
    let table = embedding_backward(&client, &dy, &tokens, 4, 2, 1).unwrap();
    assert_eq!(download(&client, &table, 2), [0.0, 5.0]);
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let (dy, tokens) = (upload(&client, &[0.0; 5]), upload_words(&client, &[0, 0]));
    let run = |rows, width| embedding_backward(&client, &dy, &tokens, rows, 3, width).map(drop);
    assert!(matches!(run(2, 3), Err(KernelError::Length { argument: "dy", expected: 6, .. })));
    assert!(matches!(run(5, 1), Err(KernelError::Length { argument: "tokens", .. })));
    assert!(matches!(run(1, usize::MAX), Err(KernelError::Overflow { .. })));
}
