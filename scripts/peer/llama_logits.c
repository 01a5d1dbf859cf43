// llama.cpp's side of scripts/peer/compare-logits: the logits of token ids at every position, by its CPU backend.
//
//   llama_logits BACKENDS FILE.gguf OUT (usual|f32) < IDS
//
// BACKENDS is the folder of libggml-cpu-*.so, IDS are numbers in text, OUT gets f32 [positions, vocabulary] without a header.
// `usual` runs as llama.cpp does by default: flash attention where it can, keys and values kept as f16.  `f32` keeps them
// as f32 and does not use flash attention, so that what rounding of the cache does can be told from the rest.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

enum { IDS_MAX = 1 << 17, BATCH = 512 };

static void fail(const char * what) {
    fprintf(stderr, "llama_logits: %s\n", what);
    exit(1);
}

static void log_warnings(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level >= GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

int main(int count, char ** words) {
    if (count != 5 || (strcmp(words[4], "usual") && strcmp(words[4], "f32"))) {
        fprintf(stderr, "usage: llama_logits BACKENDS FILE.gguf OUT (usual|f32) < IDS\n");
        return 2;
    }
    static llama_token ids[IDS_MAX];
    int positions = 0;
    while (positions < IDS_MAX && scanf("%d", &ids[positions]) == 1) positions++;
    if (positions == 0 || positions == IDS_MAX) fail("no ids, or too many");

    llama_log_set(log_warnings, NULL);
    ggml_backend_load_all_from_path(words[1]);
    llama_backend_init();
    struct llama_model_params of_model = llama_model_default_params();
    of_model.n_gpu_layers = 0;
    struct llama_model * model = llama_model_load_from_file(words[2], of_model);
    if (!model) fail("the model does not load");

    struct llama_context_params of_context = llama_context_default_params();
    of_context.n_ctx = positions;
    of_context.n_batch = BATCH;
    of_context.n_ubatch = BATCH;
    of_context.n_threads = of_context.n_threads_batch = 2;
    if (!strcmp(words[4], "f32")) {
        of_context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        of_context.type_k = of_context.type_v = GGML_TYPE_F32;
    }
    struct llama_context * context = llama_init_from_model(model, of_context);
    if (!context) fail("no context");

    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    FILE * out = fopen(words[3], "wb");
    if (!out) fail("OUT cannot be written");
    struct llama_batch batch = llama_batch_init(BATCH, 0, 1);
    for (int first = 0; first < positions; first += BATCH) {
        batch.n_tokens = positions - first < BATCH ? positions - first : BATCH;
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] = ids[first + i];
            batch.pos[i] = first + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch) != 0) fail("llama_decode");
        for (int i = 0; i < batch.n_tokens; i++) {
            const float * row = llama_get_logits_ith(context, i);
            if (!row || fwrite(row, sizeof *row, vocabulary, out) != (size_t) vocabulary) fail("a row is missing");
        }
    }
    if (fclose(out) != 0) fail("OUT could not be written");
    llama_batch_free(batch);
    llama_free(context);
    llama_model_free(model);
    return 0;
}
