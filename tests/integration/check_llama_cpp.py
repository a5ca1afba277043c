"""Tokens and log-probabilities by llama.cpp: run where `xllamacpp` and `gguf` are installed.

The model is first written anew with its dequantised weights in float32. On quantised weights
llama.cpp rounds activations to eight bits, and its log-probabilities differ by a tenth.

Arguments: the GGUF file, a folder to write into, and a JSON file with `texts` and `prompts` (token
ids). The last line that it prints has `tokens` of the texts and `responses` to the prompts.
"""

import json
import sys
import urllib.request

import numpy as np
import xllamacpp
from gguf import GGUFReader, GGUFValueType, GGUFWriter, dequantize

LENGTH = 48
BY_WRITER = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


def write_float32(file, other):
    """Write a GGUF file anew, its weights dequantised."""
    reader = GGUFReader(file)
    writer = GGUFWriter(other, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith(BY_WRITER):
            continue
        if field.types[0] == GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        plain = dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(plain.astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


file, folder, cases = sys.argv[1:]
write_float32(file, f"{folder}/float32.gguf")
with open(cases) as read:
    asked = json.load(read)
settings = xllamacpp.CommonParams()
settings.model.path = f"{folder}/float32.gguf"
settings.n_ctx, settings.n_parallel, settings.warmup = 2048, 1, False
settings.cpuparams.n_threads = 2
settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(settings)


def post(path, **body):
    """The server's answer to a request."""
    request = urllib.request.Request(
        server.listening_address + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


tokens = [post("/tokenize", content=text, parse_special=True)["tokens"] for text in asked["texts"]]
greedy = {"n_predict": LENGTH, "temperature": 0, "samplers": ["top_k"], "top_k": 1, "n_probs": 1}
responses = []
for prompt in asked["prompts"]:
    found = post("/completion", prompt=prompt, return_tokens=True, cache_prompt=False, **greedy)
    log_probs = [each["logprob"] for each in found["completion_probabilities"]]
    responses.append({"tokens": found["tokens"], "log_probs": log_probs})
print(json.dumps({"tokens": tokens, "responses": responses}))
