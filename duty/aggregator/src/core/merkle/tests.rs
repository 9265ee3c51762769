//! Our trees, maps and proofs against those of mithril-merkle-tree, and against proofs that an aggregator served.

use super::*;
use mithril_common::entities::BlockRange;
use mithril_merkle_tree::{MKMap, MKMapNode, MKMapProof, MKTree, MKTreeNode, MKTreeStoreInMemory as Memory};
use proptest::prelude::*;
use serde_json::Value;
use std::borrow::Cow;

fn node(bytes: &[u8]) -> MKTreeNode {
    MKTreeNode::new(bytes.to_vec())
}

fn block(number: u64, transactions: u8, seed: u8) -> Block {
    let hash = |kind: u8, index: u8| -> Hash {
        let mut hash = [seed; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash[8] = kind;
        hash[9] = index;
        proof::merge(&hash, b"")
    };
    let mut hashes: Vec<Hash> = (0..transactions).map(|index| hash(1, index)).collect();
    hashes.sort_unstable();
    Block { number, slot: number * 20 + u64::from(seed % 7), hash: hash(0, 0), transactions: hashes }
}

impl Leaves for Vec<Vec<u8>> {
    fn count(&self) -> u64 {
        self.len() as u64
    }

    fn leaf(&self, index: u64) -> Option<Vec<u8>> {
        self.get(index as usize).cloned()
    }
}

proptest! {
    #[test]
    fn trees_have_the_roots_and_proofs_of_the_oracle(
        leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 1..120),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        // The oracle finds a leaf by its bytes: make them differ.
        let leaves: Vec<Vec<u8>> = leaves.into_iter().enumerate().map(|(i, mut leaf)| { leaf.push(i as u8); leaf }).collect();
        let oracle = MKTree::<Memory>::new_from_iter(leaves.iter().map(|leaf| node(leaf))).unwrap();
        let ours = Tree::build(leaves.clone()).unwrap();
        prop_assert_eq!(ours.root(), &oracle.compute_root().unwrap().to_vec());
        prop_assert_eq!(ours.upper().len() as u64, tree::upper_nodes(leaves.len() as u64));
        let ours = Tree::with_upper(leaves.clone(), ours.upper().to_vec()).unwrap();

        let mut indices: Vec<u64> = picks.iter().map(|pick| pick.index(leaves.len()) as u64).collect();
        indices.sort_unstable();
        indices.dedup();
        let picked: Vec<MKTreeNode> = indices.iter().map(|index| node(&leaves[*index as usize])).collect();
        let theirs: MKMapProof<BlockRange> = oracle.compute_proof(&picked).unwrap().into();
        let ours = MapProof { master: ours.prove(&indices).unwrap(), ranges: vec![] };
        prop_assert_eq!(ours.to_bincode_hex(), hex::encode(theirs.to_bytes().unwrap()));
        prop_assert_eq!(ours.to_json_hex(), hex::encode(serde_json::to_string(&theirs).unwrap()));
    }

    #[test]
    fn maps_of_ranges_with_gaps_have_the_roots_and_proofs_of_the_oracle(
        ranges in prop::collection::btree_map(0_u64..40_000_000, prop::collection::vec(0_u8..9, 1..15), 1..40),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
        v2 in any::<bool>(),
    ) {
        let mut map = RangeMap::default();
        let mut trees = Vec::new();
        let mut theirs = Vec::new();
        for (range, counts) in &ranges {
            let blocks: Vec<Block> =
                counts.iter().enumerate().map(|(i, count)| block(range * 15 + i as u64, *count, *count)).collect();
            let form = if v2 { Form::BlocksTransactions } else { Form::Transactions };
            let leaves = expected_leaves(form, &blocks);
            let tree = range_tree(form, blocks);
            prop_assert_eq!(tree.is_none(), leaves.is_empty());
            let Some(tree) = tree else { continue };
            map.push(u32::try_from(*range).unwrap(), range_leaf(*range, tree.root())).unwrap();
            let oracle = MKTree::<Memory>::new_from_iter(leaves.iter().map(|leaf| node(leaf))).unwrap();
            theirs.push((BlockRange::from(range * 15..range * 15 + 15), MKMapNode::Tree(oracle.into())));
            trees.push((*range, tree, leaves));
        }
        prop_assume!(!trees.is_empty());
        let oracle = MKMap::<_, _, Memory>::new(&theirs).unwrap();
        prop_assert_eq!(map.root().unwrap(), oracle.compute_root().unwrap().to_vec());

        let mut wanted = std::collections::BTreeMap::<usize, std::collections::BTreeSet<u64>>::new();
        for (tree, leaf) in &picks {
            let tree = tree.index(trees.len());
            wanted.entry(tree).or_default().insert(leaf.index(trees[tree].2.len()) as u64);
        }
        let leaves: Vec<MKTreeNode> =
            wanted.iter().flat_map(|(tree, set)| set.iter().map(|i| node(&trees[*tree].2[*i as usize]))).collect();
        let theirs = oracle.compute_proof(&leaves).unwrap();
        let subs = wanted.iter().map(|(tree, set)| {
            let (range, tree, _) = &trees[*tree];
            (*range, tree.prove(&set.iter().copied().collect::<Vec<_>>()).unwrap())
        }).collect::<Vec<_>>();
        let indices: Vec<u64> = subs.iter().map(|(range, _)| map.index_of(*range as u32).unwrap()).collect();
        let root = map.root().unwrap();
        let ours = MapProof { master: map.prove(&root, &indices).unwrap(), ranges: subs };
        theirs.verify().unwrap();
        prop_assert_eq!(ours.to_bincode_hex(), hex::encode(theirs.to_bytes().unwrap()));
        prop_assert_eq!(ours.to_json_hex(), hex::encode(serde_json::to_string(&theirs).unwrap()));
    }

    #[test]
    fn a_map_that_is_cut_is_the_map_that_never_grew(
        ranges in prop::collection::btree_set(0_u32..300, 1..120), cut in 0_u64..300,
    ) {
        let leaf = |range: u32| range_leaf(u64::from(range), b"root");
        let (mut grown, mut never) = (RangeMap::default(), RangeMap::default());
        for range in &ranges {
            grown.push(*range, leaf(*range)).unwrap();
            if u64::from(*range) < cut { never.push(*range, leaf(*range)).unwrap(); }
        }
        let before = grown.clone();
        grown.truncate(cut);
        prop_assert_eq!(grown.root(), never.root());
        prop_assert_eq!(grown.last(), never.last());
        for range in ranges.iter().filter(|range| u64::from(**range) >= cut) {
            grown.push(*range, leaf(*range)).unwrap();
        }
        prop_assert_eq!(grown.root(), before.root());
    }
}

/// Leaves as the entities of mithril-common write them.
fn expected_leaves(form: Form, blocks: &[Block]) -> Vec<Vec<u8>> {
    use mithril_common::entities::{BlockNumber, CardanoBlockWithTransactions, SlotNumber};
    let entities = blocks.iter().map(|block| {
        CardanoBlockWithTransactions::new(
            hex::encode(block.hash),
            BlockNumber(block.number),
            SlotNumber(block.slot),
            block.transactions.iter().map(hex::encode).collect::<Vec<_>>(),
        )
    });
    match form {
        Form::Transactions => entities
            .flat_map(CardanoBlockWithTransactions::into_transactions)
            .map(|transaction| MKTreeNode::from(transaction).to_vec())
            .collect(),
        Form::BlocksTransactions => {
            let ordered: std::collections::BTreeSet<_> =
                entities.flat_map(CardanoBlockWithTransactions::into_mk_tree_node).collect();
            ordered.into_iter().map(|leaf| MKTreeNode::from(leaf).to_vec()).collect()
        }
    }
}

#[test]
fn every_block_and_transaction_of_a_range_has_the_leaf_that_is_said() {
    let blocks: Vec<Block> = (30..45).map(|number| block(number, (number % 4) as u8, 3)).collect();
    for form in [Form::Transactions, Form::BlocksTransactions] {
        let leaves = RangeLeaves::new(form, blocks.clone());
        let expected = expected_leaves(form, &blocks);
        assert_eq!((0..leaves.count()).map(|index| leaves.leaf(index).unwrap()).collect::<Vec<_>>(), expected);
        assert_eq!(leaves.leaf(leaves.count()), None);
        for block in &blocks {
            for hash in &block.transactions {
                let (index, home) = leaves.transaction(block.number, hash).unwrap();
                assert_eq!(home, block);
                let text = String::from_utf8(expected[index as usize].clone()).unwrap();
                assert!(text.contains(&hex::encode(hash)));
                assert_eq!(leaves.transaction(block.number + 1, hash), None);
            }
            let found = leaves.block(block.number, &block.hash).map(|(index, _)| expected[index as usize].clone());
            assert_eq!(found, (form == Form::BlocksTransactions).then(|| range::block_leaf(block)));
            assert_eq!(leaves.block(block.number, &[0; 32]), None);
        }
    }
}

#[test]
fn a_range_of_one_transaction_has_that_hash_in_text_as_its_root() {
    let tree = range_tree(Form::Transactions, vec![block(7, 1, 1)]).unwrap();
    assert_eq!(tree.root(), transaction_text(&block(7, 1, 1)).as_bytes());
    assert_eq!(tree.root().len(), 64);
    let proof = tree.prove(&[0]).unwrap();
    assert_eq!((proof.size, proof.items.len()), (1, 0));
}

fn transaction_text(block: &Block) -> String {
    hex::encode(block.transactions[0])
}

#[test]
fn nothing_is_proven_about_nothing() {
    assert_eq!(Tree::build(Vec::<Vec<u8>>::new()).unwrap_err(), MerkleError::NoLeaves);
    let one = vec![b"leaf".to_vec()];
    assert_eq!(Tree::with_upper(one.clone(), vec![[0; 32]]).unwrap_err(), MerkleError::NoNode(1));
    assert_eq!(Tree::build(one).unwrap().prove(&[1]), Err(MerkleError::NoLeaf(1)));
    assert_eq!(RangeMap::default().root(), Err(MerkleError::NoLeaves));
    let mut map = RangeMap::default();
    map.push(3, [1; 32]).unwrap();
    assert_eq!(map.prove(&[0], &[]), Err(MerkleError::NoLeaves));
    assert_eq!(map.prove(&[0], &[1]), Err(MerkleError::NoLeaf(1)));
    assert_eq!(map.push(3, [2; 32]), Err(MerkleError::Order(3)));
    assert_eq!(map.push(2, [2; 32]), Err(MerkleError::Order(2)));
}

fn parse_proof(value: &Value) -> Proof<'static> {
    let bytes = |node: &Value| -> Cow<'static, [u8]> {
        Cow::Owned(node["hash"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect())
    };
    Proof {
        root: bytes(&value["inner_root"]),
        leaves: value["inner_leaves"]
            .as_array()
            .unwrap()
            .iter()
            .map(|leaf| (leaf[0].as_u64().unwrap(), bytes(&leaf[1])))
            .collect(),
        size: value["inner_proof_size"].as_u64().unwrap(),
        items: value["inner_proof_items"].as_array().unwrap().iter().map(bytes).collect(),
    }
}

fn parse(value: &Value) -> MapProof<'static> {
    let ranges = value["sub_proofs"].as_array().unwrap().iter();
    MapProof {
        master: parse_proof(&value["master_proof"]),
        ranges: ranges
            .map(|sub| {
                let start = sub[0]["inner_range"]["start"].as_u64().unwrap();
                assert_eq!(sub[1]["sub_proofs"].as_array().unwrap().len(), 0);
                (start / 15, parse_proof(&sub[1]["master_proof"]))
            })
            .collect(),
    }
}

fn golden(file: &str) -> Option<Value> {
    let path = format!("{}/../../../shared/data/mithril/devnet/{file}", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(why) => {
            if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
                use std::io::Write as _;
                let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
                writeln!(log, "core::merkle golden proofs: {path}: {why}").unwrap();
            }
            None
        }
    }
}

#[test]
fn proofs_that_an_aggregator_served_are_written_by_us_byte_for_byte() {
    let mut seen = (0, 0);
    for file in ["ctx-proofs.json", "ctx-proofs-v2.json", "cblk-proofs.json"] {
        let Some(all) = golden(file) else { return };
        for message in all.as_object().unwrap().values() {
            let v1 = message["certified_transactions"].as_array();
            let v2 = message["certified_transactions"].as_object().or(message["certified_blocks"].as_object());
            for part in v1.into_iter().flatten() {
                let text = part["proof"].as_str().unwrap();
                let proof = parse(&serde_json::from_slice(&hex::decode(text).unwrap()).unwrap());
                assert_eq!(proof.to_json_hex(), text);
                holds(&proof);
                seen.0 += 1;
            }
            if let Some(part) = v2 {
                let text = part["proof"].as_str().unwrap();
                let theirs = MKMapProof::<BlockRange>::from_bytes(&hex::decode(text).unwrap()).unwrap();
                let proof = parse(&serde_json::to_value(&theirs).unwrap());
                assert_eq!(proof.to_bincode_hex(), text);
                holds(&proof);
                seen.1 += 1;
            }
        }
    }
    assert!(seen.0 >= 3 && seen.1 >= 20, "proofs seen: {seen:?}");
}

/// The leaves of the master proof are what we say the leaf of each range is.
fn holds(proof: &MapProof<'_>) {
    let leaves: Vec<Vec<u8>> = proof.master.leaves.iter().map(|(_, leaf)| leaf.to_vec()).collect();
    for (range, sub) in &proof.ranges {
        assert!(leaves.contains(&range_leaf(*range, &sub.root).to_vec()));
    }
    let theirs: MKMapProof<BlockRange> = MKMapProof::from_bytes(&hex::decode(proof.to_bincode_hex()).unwrap()).unwrap();
    theirs.verify().unwrap();
}
