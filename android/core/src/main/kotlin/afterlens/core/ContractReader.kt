package afterlens.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.StandardCharsets
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive

/** The name of the contract in a bundle. */
const val CONTRACT_FILE = "model.json"

/** A real one has 20 kB. */
const val MOST_CONTRACT_BYTES = 4 shl 20

/** Read the bytes of a model.json, which may come from anywhere. Throws a [Fault] as docs/vectors.md words it. */
fun readContract(bytes: ByteArray): Contract {
    if (bytes.size > MOST_CONTRACT_BYTES) throw Fault("$CONTRACT_FILE: larger than $MOST_CONTRACT_BYTES bytes")
    return contract(JsonNode(parse(bytes)))
}

private fun parse(bytes: ByteArray): JsonElement {
    val document = try {
        val text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString()
        Json.parseToJsonElement(text)
    } catch (_: CharacterCodingException) {
        throw notJson()
    } catch (_: SerializationException) {
        throw notJson()
    } catch (_: StackOverflowError) {
        throw notJson()
    }
    refuseBareWords(document)
    return document
}

/** The parser takes any bare word for a value, NaN and abc alike. */
private fun refuseBareWords(document: JsonElement) {
    val open = ArrayDeque(listOf(document))
    while (open.isNotEmpty()) {
        when (val value = open.removeLast()) {
            is JsonObject -> open.addAll(value.values)
            is JsonArray -> open.addAll(value)
            is JsonNull -> Unit
            is JsonPrimitive -> if (!value.isString && !BARE.matches(value.content)) throw notJson()
        }
    }
}

private fun notJson() = Fault("$CONTRACT_FILE: is not valid JSON")

private fun contract(node: JsonNode): Contract {
    val fields = node.fields(
        setOf("schema_version", "task", "title", "version", "artifacts", "golden", "provenance"),
        setOf("proof", "camera_frame"),
    )
    val version = fields["schema_version"].oneOf(1, 2)
    checkProvenance(fields["provenance"])
    val contract = Contract(
        task = fields["task"].text("small letters, digits and _, a letter first", TASK),
        title = fields["title"].text(),
        version = fields["version"].text(),
        artifacts = fields["artifacts"].list(1, 256).map(::artifact),
        golden = fields["golden"].list(0, 256).map { golden(it, version) },
        proof = fields.optional("proof")?.takeUnless { it.isNull }?.let(::proof),
        camera = camera(fields.optional("camera_frame")),
    )
    refuseTwins(contract)
    return contract
}

private fun camera(node: JsonNode?): CameraFrame {
    if (node == null) return CameraFrame.NotSaid
    if (node.isNull) return CameraFrame.Scaled
    val fields = node.fields(setOf("width", "height"))
    return CameraFrame.Exact(Size(fields["width"].side(), fields["height"].side()))
}

private fun refuseTwins(contract: Contract) {
    val seen = mutableSetOf<String>()
    for ((list, entries) in listOf("artifacts" to contract.artifacts, "golden" to contract.golden)) {
        entries.forEachIndexed { index, entry ->
            if (!seen.add(entry.file)) throw Fault("$CONTRACT_FILE: $list[$index].file: ${entry.file} is named twice")
        }
    }
}

private fun artifact(node: JsonNode): Artifact {
    val fields = node.fields(
        setOf(
            "file", "format", "variant", "width", "height", "sha256", "bytes", "minimum_runtime", "inputs", "outputs",
            "parameters", "macs",
        ),
        setOf("self_test_floor_db"),
    )
    return Artifact(
        file = fields["file"].text(FILE_NAME, FILE),
        format = fields["format"].oneOf(listOf("tflite", "coreml")),
        variant = fields["variant"].oneOf(VARIANTS),
        width = fields["width"].side(),
        height = fields["height"].side(),
        sha256 = fields["sha256"].sha256(),
        bytes = fields["bytes"].whole(1),
        minimumRuntime = fields["minimum_runtime"].text(),
        inputs = fields["inputs"].list(1).map(::tensor),
        outputs = fields["outputs"].list(1).map(::tensor),
        parameters = fields["parameters"].whole(0),
        macs = fields["macs"].whole(0),
        selfTestFloor = fields.optional("self_test_floor_db")?.takeUnless { it.isNull }?.number(),
    )
}

private fun tensor(node: JsonNode): TensorSpec {
    val fields = node.fields(setOf("name", "shape", "layout", "dtype", "range", "colour_space", "meaning"), setOf("kind"))
    val range = fields["range"].list(2, 2).map { it.number() }
    return TensorSpec(
        name = fields["name"].text("letters, digits and _, no digit first", NAME),
        shape = fields["shape"].list(1, 8).map { it.side() },
        layout = fields["layout"].oneOf(listOf("NHWC", "image", "array")),
        dtype = fields["dtype"].oneOf(listOf("float32", "uint8")),
        low = range[0],
        high = range[1],
        colourSpace = fields["colour_space"].text(),
        meaning = fields["meaning"].text(pattern = null),
        kind = fields.optional("kind")?.oneOf(listOf("image", "vector", "class")) ?: "image",
    )
}

private fun golden(node: JsonNode, version: Int): GoldenFile {
    val size = if (version == 1) setOf("width", "height") else setOf("shape")
    val fields = node.fields(setOf("file", "role", "tensor", "encoding", "sha256", "bytes") + size)
    return GoldenFile(
        file = fields["file"].text("golden/ and $FILE_NAME", GOLDEN_FILE),
        role = fields["role"].oneOf(listOf("input", "output")),
        tensor = fields["tensor"].text(pattern = null),
        encoding = fields["encoding"].oneOf(listOf("png", "float32")),
        shape = if (version == 1) {
            listOf(fields["height"].side(), fields["width"].side(), 3)
        } else {
            fields["shape"].list(1, 8).map { it.side() }
        },
        sha256 = fields["sha256"].sha256(),
        bytes = fields["bytes"].whole(1),
    )
}

/** Of where the weights come from, apps show nothing yet; it must be there all the same. */
private fun checkProvenance(node: JsonNode) {
    val fields = node.fields(setOf("checkpoint_sha256", "recipe", "data_licence", "tools"), optional = null)
    fields["checkpoint_sha256"].sha256()
    fields["recipe"].fields(emptySet(), optional = null)
    fields["data_licence"].text()
    fields["tools"].fields(emptySet(), optional = null)
}

private fun proof(node: JsonNode): Proof {
    val fields = node.fields(setOf("passed", "images", "results"))
    val results = fields["results"].list().map {
        val result = it.fields(setOf("file", "passed", "max_error", "psnr"))
        ProofResult(
            file = result["file"].text(FILE_NAME, FILE),
            passed = result["passed"].flag(),
            maxError = result["max_error"].number(atLeast = 0.0),
            psnr = result["psnr"].number(),
        )
    }
    return Proof(fields["passed"].flag(), fields["images"].whole(1, Int.MAX_VALUE.toLong()).toInt(), results)
}

private fun JsonNode.side(): Int = whole(1, 16384).toInt()

private fun JsonNode.sha256(): String = text("64 hexadecimal digits in small letters", SHA256)

private val VARIANTS = listOf(
    "float32", "float16", "dynamic_range_quant", "full_integer_quant", "integer_quant_with_int16_act", "mixed", "int8",
    "palettized6", "palettized4",
)
private const val FILE_NAME = "the name of a file inside the bundle"
private val FILE = Regex("[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
private val GOLDEN_FILE = Regex("golden/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
private val SHA256 = Regex("[0-9a-f]{64}")
private val TASK = Regex("[a-z][a-z0-9_]{0,63}")
private val NAME = Regex("[A-Za-z_][A-Za-z0-9_]{0,63}")
private val BARE = Regex("true|false|-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?")
