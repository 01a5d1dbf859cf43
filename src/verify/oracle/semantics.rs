//! Every decision of the forward pass, each an explicit field.
//!
//! [`Semantics::gpt_oss`] holds the right ones.  A fault of the forward pass is a copy with a field changed, so that
//! neither the oracle nor production code carries hooks: what a wrong implementation would compute is computed here.
//!
//! Sources: OpenAI's `gpt_oss/torch/model.py` and the Hugging Face implementation, as the project's specification
//! states them (§4.1); the two agree wherever both were read.

use crate::checkpoint::ModelConfig;

/// The whole pass: embedding, blocks, unembedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Semantics {
    /// Rows of the embedding.
    pub embedding: Embedding,
    /// The norm before the attention projections.
    pub attention_norm: Norm,
    /// Query, key and value projections.
    pub projection: Projection,
    /// Rotary embedding of queries and keys.
    pub rope: Rope,
    /// What attention finds of keys and values.
    pub cache: Cache,
    /// From queries, keys and values to the weighted values of each head.
    pub attention: Attention,
    /// The residual connections.
    pub residual: Residual,
    /// The norm before router and experts.
    pub mlp_norm: Norm,
    /// The choice of experts.
    pub router: Router,
    /// The experts and their weighted sum.
    pub experts: Experts,
    /// How packed expert weights are decoded.
    pub mxfp4: Mxfp4,
    /// The norm before the unembedding.
    pub final_norm: Norm,
    /// From the last hidden state to logits.
    pub unembedding: Unembedding,
}

/// `x = embedding[token]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embedding {
    /// Added to every token id, modulo the vocabulary: 0.
    pub row_shift: usize,
    /// Factor on the row: 1 (Gemma's √hidden is wrong here).
    pub factor: f64,
}

/// `y = x / √(mean(x²) + epsilon) · gain`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// What the row is divided by.
    pub kind: NormKind,
    /// Added to the mean square: 1e-5.
    pub epsilon: f64,
    /// How the gain enters.
    pub gain: Gain,
}

/// What a norm divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root of the mean square.  Right.
    RootMeanSquare,
    /// Root of the sum of squares (L2).
    RootSumSquare,
    /// LayerNorm: the mean is subtracted first.
    Centered,
    /// No norm at all: the row is passed on.
    Absent,
}

/// How a norm's gain enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// Multiplies the normalised row.  Right.
    After,
    /// Multiplies the row before it is normalised.
    Before,
    /// One plus the gain multiplies (Gemma).
    PlusOne,
    /// Not applied.
    Absent,
}

/// `qkv = W · x + b`, rows Q, K, V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// The query bias is added.
    pub query_bias: bool,
    /// The key bias is added.
    pub key_bias: bool,
    /// The value bias is added.
    pub value_bias: bool,
    /// The rows of K and V change places: false.
    pub key_value_swapped: bool,
}

/// Rotary embedding with YaRN scaling (arXiv 2309.00071), the correction range not rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Which values of a head rotate together.
    pub pairs: Pairs,
    /// The sense of the rotation.
    pub direction: Direction,
    /// Base of the frequencies: 150 000.
    pub theta: f64,
    /// d in `theta^(2i/d)`: the size of a head.
    pub frequency_dim: usize,
    /// How the frequencies are changed for long contexts.
    pub scaling: Scaling,
    /// Context the model was first trained on, tokens: 4096.
    pub initial_context_length: f64,
    /// Context extension factor: 32.
    pub factor: f64,
    /// Rotations within the first context above which a frequency is kept, `ntk_beta`: 32.
    pub beta_fast: f64,
    /// Rotations below which a frequency is divided by the factor, `ntk_alpha`: 1.
    pub beta_slow: f64,
    /// Whether the correction range is rounded.
    pub range: CorrectionRange,
    /// Factor on cos and sin of queries: `0.1 · ln(factor) + 1`.
    pub query_concentration: f64,
    /// Factor on cos and sin of keys: the same.
    pub key_concentration: f64,
    /// Added to the positions of queries: 0.  A shift of both is invisible: only differences count.
    pub query_shift: f64,
    /// Added to the positions of keys: 0.
    pub key_shift: f64,
    /// Positions start again at 0 after so many tokens: never.
    pub restarts_after: Option<usize>,
}

/// Which values of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// i and i + d/2.  Right.
    HalfSplit,
    /// 2i and 2i + 1 (model.bin stores rows in the order that makes this right).
    Interleaved,
}

/// The sense of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `(x₁·cos − x₂·sin, x₂·cos + x₁·sin)`.  Right.
    Forward,
    /// The sine negated for queries and keys alike; differences of positions change their sign.
    Backward,
}

/// How frequencies are changed for long contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// Kept where fast, divided by the factor where slow, a ramp between.  Right.
    Yarn,
    /// The ramp upside down: fast frequencies are divided.
    YarnInverted,
    /// All kept.
    Absent,
    /// All divided by the factor.
    Linear,
}

/// Whether YaRN's correction range is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorrectionRange {
    /// As computed.  Right (`truncate: false`).
    Exact,
    /// Outwards to whole pairs, not below the first nor beyond `head_dim − 1`, as ggml and transformers' default do.
    Rounded,
}

/// What attention finds of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// What was computed.  Right.
    AsComputed,
    /// Rounded to f16, keys after their rotation: right where a user asked for it, to save memory.
    F16,
}

/// `softmax(scale · q·k, sink) · v`, causal, grouped-query, windowed on some layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Factor on q·k: 1/√head_dim.
    pub scale: f64,
    /// Keys a windowed layer sees, the query's own included: 128.
    pub window: usize,
    /// The layers with a window: the even ones.
    pub windowed: Layers,
    /// Keys after the query's own that it sees: 0.  At −1 it does not see its own.
    pub lookahead: isize,
    /// A query sees only keys of its own chunk of so many tokens: never.
    pub forgets_after: Option<usize>,
    /// Which key-value head a query head reads.
    pub kv_head: KvHead,
    /// The learned sinks.
    pub sink: Sink,
    /// The output projection's bias is added.
    pub output_bias: bool,
}

/// Some of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Layers {
    Even,
    Odd,
    All,
    None,
}

impl Layers {
    /// Whether it is among them.
    pub fn contain(self, layer: usize) -> bool {
        match self {
            Layers::Even => layer.is_multiple_of(2),
            Layers::Odd => !layer.is_multiple_of(2),
            Layers::All => true,
            Layers::None => false,
        }
    }
}

/// Which key-value head a query head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvHead {
    /// `head / (heads / kv_heads)`.  Right.
    Grouped,
    /// `head % kv_heads`.
    Modulo,
}

/// A learned logit of each head that takes part in the softmax and contributes no value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sink {
    /// The layers that have one: all.
    pub layers: Layers,
    /// Factor on the logit: 1 (it is not scaled by 1/√d).
    pub factor: f64,
    /// How often it is added to the denominator: once.
    pub count: usize,
    /// Whose logit a head uses.
    pub of: SinkOf,
    /// What its probability does.
    pub weighs: SinkWeighs,
}

/// Whose sink a query head uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkOf {
    /// Its own.  Right.
    OwnHead,
    /// That of the next query head.
    NextHead,
    /// That with the index of its key-value head.
    KvHead,
}

/// What a sink's probability multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkWeighs {
    /// Nothing.  Right.
    Nothing,
    /// The first visible value, as if a sink were a token.
    FirstValue,
}

/// Factors on the residual stream where a branch is added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// On the stream the attention output is added to: 1 (0: dropped).
    pub attention: f64,
    /// On the stream the experts' output is added to: 1.
    pub mlp: f64,
}

/// `logits = W · x + b`; the highest logits choose, a softmax over the chosen weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router {
    /// The bias is added.
    pub bias: bool,
    /// What it reads.
    pub input: MlpInput,
    /// Experts chosen for each token: 4.
    pub experts_per_token: usize,
    /// Which of equal logits comes first.
    pub ties: Ties,
    /// From logits to weights.
    pub weights: RouterWeights,
    /// The weights are handed out in reverse: false.
    pub weights_reversed: bool,
}

/// What router or experts read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpInput {
    /// The normalised residual stream.  Right.
    Normed,
    /// The residual stream itself.
    Residual,
}

/// Which of equal router logits comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The lowest expert id, as OpenAI's Metal kernels do; PyTorch leaves it open.
    LowestId,
    /// The highest expert id.
    HighestId,
}

/// From router logits to the weights of the chosen experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterWeights {
    /// Softmax over the chosen.  Right.
    SoftmaxOfChosen,
    /// Softmax over all, not renormalised over the chosen.
    SoftmaxOfAll,
    /// Logistic function of each, not renormalised.
    Sigmoid,
    /// All alike.
    Uniform,
}

/// `Σ weight · (W₂ · swiglu(W₁ · x + b₁) + b₂)` over the chosen experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// What they read.
    pub input: MlpInput,
    /// Added to the id of a chosen expert, modulo their number, when its matrices are fetched: 0.
    pub id_shift: usize,
    /// b₁ is added.
    pub mlp1_bias: bool,
    /// How b₂ enters.
    pub mlp2_bias: Mlp2Bias,
    /// Where the router's weight multiplies.
    pub weighted: Weighted,
    /// Which rows of `W₁` are gates, which are linear ("up").
    pub gate_up: GateUp,
    /// Limits of the gate, low and high: −∞ and 7.
    pub gate_limits: (f64, f64),
    /// Limits of the linear part, low and high: −7 and 7.
    pub up_limits: (f64, f64),
    /// The limits are applied before b₁ is added: false.
    pub limits_before_bias: bool,
    /// Factor in the gate's logistic function: 1.702.
    pub alpha: f64,
    /// Added to the linear part: 1.
    pub up_offset: f64,
}

/// How the bias of an expert's second matrix enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp2Bias {
    /// Added before the router's weight multiplies.  Right.
    Weighted,
    /// Added after.
    Unweighted,
    /// Not added.
    Absent,
}

/// Where the router's weight multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighted {
    /// The expert's output.  Right.
    Output,
    /// The expert's input.
    Input,
}

/// Which rows of an expert's first matrix are gates, which are linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateUp {
    /// Even rows gates, odd rows linear.  Right.
    Interleaved,
    /// Odd rows gates, even rows linear.
    Swapped,
    /// First half gates, second half linear.
    Halves,
}

/// `weight = E2M1[nibble] · 2^(scale − 127)`, 32 values to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mxfp4 {
    /// Where in a block the nibble of a value lies.
    pub nibbles: Nibbles,
    /// Added to the exponent: 0.
    pub exponent_shift: i32,
    /// A block takes the scale of the block so many further on in its row, cyclically: 0.
    pub scale_shift: usize,
}

/// Where in a block's 16 bytes the nibble of value i lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nibbles {
    /// Byte i / 2, the low one for even i.  Right.
    LowFirst,
    /// Byte i / 2, the high one for even i.
    HighFirst,
    /// Byte i % 16, the low one for i < 16 (ggml's order, which its converter makes).
    Halves,
}

/// `logits = W · x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unembedding {
    /// The embedding is used in its place: false.
    pub tied: bool,
    /// Logits are bounded by `cap · tanh(logit / cap)`: not.
    pub softcap: Option<f64>,
}

impl Semantics {
    /// The right decisions.
    pub fn gpt_oss(c: &ModelConfig) -> Semantics {
        let norm = Norm { kind: NormKind::RootMeanSquare, epsilon: 1e-5, gain: Gain::After };
        let limit = f64::from(c.swiglu_limit);
        Semantics {
            embedding: Embedding { row_shift: 0, factor: 1.0 },
            attention_norm: norm,
            projection: Projection { query_bias: true, key_bias: true, value_bias: true, key_value_swapped: false },
            rope: Rope::gpt_oss(c),
            cache: Cache::AsComputed,
            attention: Attention {
                scale: 1.0 / (c.head_dim as f64).sqrt(),
                window: c.sliding_window,
                windowed: Layers::Even,
                lookahead: 0,
                forgets_after: None,
                kv_head: KvHead::Grouped,
                sink: Sink {
                    layers: Layers::All,
                    factor: 1.0,
                    count: 1,
                    of: SinkOf::OwnHead,
                    weighs: SinkWeighs::Nothing,
                },
                output_bias: true,
            },
            residual: Residual { attention: 1.0, mlp: 1.0 },
            mlp_norm: norm,
            router: Router {
                bias: true,
                input: MlpInput::Normed,
                experts_per_token: c.experts_per_token,
                ties: Ties::LowestId,
                weights: RouterWeights::SoftmaxOfChosen,
                weights_reversed: false,
            },
            experts: Experts {
                input: MlpInput::Normed,
                id_shift: 0,
                mlp1_bias: true,
                mlp2_bias: Mlp2Bias::Weighted,
                weighted: Weighted::Output,
                gate_up: GateUp::Interleaved,
                gate_limits: (f64::NEG_INFINITY, limit),
                up_limits: (-limit, limit),
                limits_before_bias: false,
                alpha: 1.702,
                up_offset: 1.0,
            },
            mxfp4: Mxfp4 { nibbles: Nibbles::LowFirst, exponent_shift: 0, scale_shift: 0 },
            final_norm: norm,
            unembedding: Unembedding { tied: false, softcap: None },
        }
    }
}

impl Semantics {
    /// Those by which llama.cpp runs the same weights: the right ones but for the range of YaRN's ramp.
    pub fn ggml_compat(c: &ModelConfig) -> Semantics {
        let right = Semantics::gpt_oss(c);
        Semantics { rope: Rope { range: CorrectionRange::Rounded, ..right.rope }, ..right }
    }
}

impl Rope {
    /// The right decisions.
    pub fn gpt_oss(c: &ModelConfig) -> Rope {
        // A factor of at most 1 extends nothing, and the reference then scales nothing.
        let extends = c.rope.scaling_factor > 1.0;
        let concentration = if extends { 0.1 * c.rope.scaling_factor.ln() + 1.0 } else { 1.0 };
        Rope {
            pairs: Pairs::HalfSplit,
            direction: Direction::Forward,
            theta: c.rope.theta,
            frequency_dim: c.head_dim,
            scaling: if extends { Scaling::Yarn } else { Scaling::Absent },
            initial_context_length: c.rope.initial_context_length as f64,
            factor: c.rope.scaling_factor,
            beta_fast: c.rope.ntk_beta,
            beta_slow: c.rope.ntk_alpha,
            range: CorrectionRange::Exact,
            query_concentration: concentration,
            key_concentration: concentration,
            query_shift: 0.0,
            key_shift: 0.0,
            restarts_after: None,
        }
    }
}
