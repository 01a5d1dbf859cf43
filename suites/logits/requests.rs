//! What may be asked of the oracle gives parts of the whole pass, bit for bit; and every layout gives the same bits.

use gptoss::checkpoint::{Checkpoint, Layout, WeightSource};
use gptoss::models::gpt_oss::stage::Stage;
use gptoss::verify::bench::prompt;
use gptoss::verify::cases::fixtures::{exported, small_tokenizer};
use gptoss::verify::fixture::{Recipe, in_memory};
use gptoss::verify::oracle::noise::{Tap, routing, trace};
use gptoss::verify::oracle::semantics::Cache;
use gptoss::verify::oracle::{Given, Kept, Oracle, Positions, Request, Rows, Semantics, Vocab};

fn small() -> Checkpoint {
    in_memory(&Recipe::built_in("small-vocab"), Layout::Original, 1).expect("the recipe is valid")
}

fn tokens() -> Vec<u32> {
    prompt(150, 1024)
}

fn whole(source: &dyn WeightSource) -> Vec<Tap<f64>> {
    trace(&Oracle::new(source), &tokens(), &Request::default())
}

fn tap(taps: &[Tap<f64>], stage: Stage, layer: Option<usize>) -> &Rows<f64> {
    &taps.iter().find(|tap| (tap.stage, tap.layer) == (stage, layer)).expect("the run has the stage").rows
}

fn unobserved(_: Stage, _: Option<usize>, _: &Rows<f64>) {}

/// Bits, so that −0 is not 0.
fn bits(taps: &[Tap<f64>]) -> Vec<(Stage, Option<usize>, usize, Vec<u64>)> {
    let of = |tap: &Tap<f64>| {
        (tap.stage, tap.layer, tap.rows.width, tap.rows.values.iter().map(|x| x.to_bits()).collect::<Vec<u64>>())
    };
    taps.iter().map(of).collect()
}

#[test]
fn every_layout_gives_the_same_bits() {
    let recipe = Recipe::built_in("T3");
    let (tokens, ask) = (prompt(200, 200_014), Request { positions: Positions::Last, ..Request::default() });
    let run = |source: &dyn WeightSource| bits(&trace(&Oracle::new(source), &tokens, &ask));
    let original = in_memory(&recipe, Layout::Original, 1).expect("the recipe is valid");
    let want = run(&original);
    for shards in [1, 3] {
        let hf = in_memory(&recipe, Layout::Hf, shards).expect("the recipe is valid");
        assert!(run(&hf) == want, "HF in {shards}");
    }
    let model_bin = exported(&original, &small_tokenizer(200_014)).expect("the fixture can be exported");
    assert_eq!(model_bin.layout(), Layout::ModelBin);
    assert!(run(&model_bin) == want, "model.bin");
}

#[test]
fn every_stage_comes_once_in_the_order_of_the_pass() {
    use strum::IntoEnumIterator;
    let checkpoint = small();
    let config = checkpoint.config();
    let in_layers = |layer| Stage::iter().filter(|s| s.is_of_a_layer()).map(move |stage| (stage, Some(layer)));
    let want = [(Stage::Embedding, None)]
        .into_iter()
        .chain((0..config.layers).flat_map(in_layers))
        .chain([(Stage::FinalNorm, None), (Stage::Logits, None)]);
    let taps = whole(&checkpoint);
    assert!(taps.iter().map(|tap| (tap.stage, tap.layer)).eq(want));
    for tap in &taps {
        assert_eq!((tap.rows.width, tap.rows.count()), (tap.stage.width(config), tokens().len()), "{}", tap.stage);
    }
}

#[test]
fn positions_and_ids_are_parts_of_all_logits() {
    let checkpoint = small();
    let taps = whole(&checkpoint);
    let all = tap(&taps, Stage::Logits, None);
    let oracle = Oracle::new(&checkpoint);
    let ask = |ask: Request| oracle.forward(&tokens(), &ask, &mut unobserved);
    let last = Request { positions: Positions::Last, ..Request::default() };
    assert_eq!(ask(last), all.select(&[149]));
    let some = Request { positions: Positions::These(&[130, 2]), vocab: Vocab::These(&[1023, 0, 7]), ..last };
    let picked: Vec<f64> = [130, 2].iter().flat_map(|&p| [1023, 0, 7].map(|id| all.row(p)[id])).collect();
    assert_eq!(ask(some), Rows { width: 3, values: picked });
}

/// No position sees a later one: a prefix gives the rows of the whole.
#[test]
fn a_prefix_gives_the_same_bits() {
    let checkpoint = small();
    let taps = whole(&checkpoint);
    for count in [1, 128, 129] {
        let prefix: Vec<Tap<f64>> = trace(&Oracle::new(&checkpoint), &tokens()[..count], &Request::default());
        let positions: Vec<usize> = (0..count).collect();
        for (whole, prefix) in taps.iter().zip(&prefix) {
            assert_eq!(whole.rows.select(&positions), prefix.rows, "{} {:?}", prefix.stage, prefix.layer);
        }
    }
}

#[test]
fn one_layer_at_a_time_is_the_whole_pass() {
    let checkpoint = small();
    let (oracle, taps) = (Oracle::new(&checkpoint), whole(&checkpoint));
    let mut x = oracle.embed(&tokens());
    assert_eq!(&x, tap(&taps, Stage::Embedding, None));
    for layer in 0..checkpoint.config().layers {
        x = oracle.layer(layer, &x, Given::default(), &mut unobserved);
        assert_eq!(&x, tap(&taps, Stage::BlockOutput, Some(layer)), "layer {layer}");
        let limited = Request { layers: Some(layer + 1), ..Request::default() };
        let cut: Vec<Tap<f64>> = trace(&oracle, &tokens(), &limited);
        assert_eq!(tap(&cut, Stage::BlockOutput, Some(layer)), &x);
        assert_eq!(oracle.head(&x, &limited, &mut unobserved), *tap(&cut, Stage::Logits, None));
    }
}

#[test]
fn forced_experts_are_used() {
    let checkpoint = small();
    let (oracle, taps) = (Oracle::new(&checkpoint), whole(&checkpoint));
    let mut forced = routing(&taps);
    let ask = |forced: &[_]| trace(&oracle, &tokens(), &Request { routing: Some(forced), ..Request::default() });
    assert!(bits(&ask(&forced)) == bits(&taps), "the router's own choice");
    // One position of one layer takes expert ids that it did not choose.
    let free: Vec<usize> = (0..8).filter(|id| !forced[2][100].contains(id)).collect();
    forced[2][100] = free.clone();
    let other = ask(&forced);
    let experts = tap(&other, Stage::Experts, Some(2));
    assert!(experts.row(100).iter().map(|&id| id as usize).eq(free));
    assert_eq!(experts.row(99), tap(&taps, Stage::Experts, Some(2)).row(99));
    assert!((tap(&other, Stage::ExpertWeights, Some(2)).row(100).iter().sum::<f64>() - 1.0).abs() < 1e-15);
    let differs = |p: usize| tap(&other, Stage::Logits, None).row(p) != tap(&taps, Stage::Logits, None).row(p);
    assert!(!differs(99) && differs(100) && differs(149), "later positions see the changed key");
}

#[test]
fn a_given_cache_is_read_and_the_own_one_observed() {
    let checkpoint = small();
    let rule = Semantics { cache: Cache::F16, ..Semantics::gpt_oss(checkpoint.config()) };
    let rounded: Vec<Tap<f64>> = trace(&Oracle::with(&checkpoint, rule), &tokens(), &Request::default());
    let rows = |stage, layer| tap(&rounded, stage, Some(layer)).to::<f32>();
    let cache: Vec<Kept> =
        (0..4).map(|layer| Kept { keys: rows(Stage::Key, layer), values: rows(Stage::Value, layer) }).collect();
    let given: Vec<Tap<f64>> =
        trace(&Oracle::new(&checkpoint), &tokens(), &Request { cache: Some(&cache), ..Request::default() });
    for (given, rounded) in given.iter().zip(&rounded) {
        let is_kept = matches!(given.stage, Stage::Key | Stage::Value);
        assert_eq!(given.rows == rounded.rows, !is_kept, "{} {:?}", given.stage, given.layer);
    }
    let own = whole(&checkpoint);
    assert_eq!(tap(&given, Stage::Key, Some(0)), tap(&own, Stage::Key, Some(0)), "not rounded");
    assert_ne!(tap(&given, Stage::Attention, Some(0)), tap(&own, Stage::Attention, Some(0)));
}

#[test]
#[should_panic(expected = "token Some(1024) of 1024 rows")]
fn a_token_outside_the_vocabulary_is_refused() {
    let checkpoint = small();
    let _: Rows<f64> = Oracle::new(&checkpoint).embed(&[0, 1024]);
}
