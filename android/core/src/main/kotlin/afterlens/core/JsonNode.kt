package afterlens.core

import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive

/** A value of model.json that knows where it stands: every reader throws a [Fault] that names its path. */
internal class JsonNode(private val value: JsonElement, private val path: String = "") {

    val isNull get() = value is JsonNull

    /** An object with all of [required], and nothing that is neither required nor [optional]; null allows any key. */
    fun fields(required: Set<String>, optional: Set<String>? = emptySet()): Fields {
        val entries = value as? JsonObject ?: throw wrong("an object")
        required.firstOrNull { it !in entries }?.let { throw fault("$it is missing") }
        if (optional != null) {
            entries.keys.firstOrNull { it !in required && it !in optional }?.let { throw fault("unknown key \"$it\"") }
        }
        return Fields(entries)
    }

    /** The keys of an object. */
    inner class Fields(private val entries: JsonObject) {
        operator fun get(key: String): JsonNode = JsonNode(entries.getValue(key), if (path.isEmpty()) key else "$path.$key")

        fun optional(key: String): JsonNode? = if (key in entries) get(key) else null
    }

    fun list(atLeast: Int = 0, atMost: Int = Int.MAX_VALUE): List<JsonNode> {
        val entries = value as? JsonArray ?: throw wrong("a list")
        if (entries.size !in atLeast..atMost) {
            val expected = when {
                atLeast == atMost -> "$atLeast"
                atMost == Int.MAX_VALUE -> "at least $atLeast"
                else -> "$atLeast to $atMost"
            }
            throw fault("got ${entries.size} entries, expected $expected")
        }
        return entries.mapIndexed { index, entry -> JsonNode(entry, "$path[$index]") }
    }

    /** A text; where there is a [pattern], one that matches it entirely, called [expected] for people. */
    fun text(expected: String = "a text", pattern: Regex? = NOT_EMPTY): String {
        val text = (value as? JsonPrimitive)?.takeIf { it.isString }?.content
        return text?.takeIf { pattern?.matches(it) ?: true } ?: throw wrong(expected)
    }

    fun oneOf(choices: List<String>): String {
        val expected = "one of ${choices.joinToString()}"
        return text(expected).also { if (it !in choices) throw wrong(expected) }
    }

    fun oneOf(vararg choices: Int): Int =
        numberOrNull()?.toInt()?.takeIf { it in choices && it.toDouble() == numberOrNull() }
            ?: throw wrong(choices.joinToString(" or "))

    fun whole(atLeast: Long, atMost: Long = Long.MAX_VALUE): Long {
        val expected = if (atMost == Long.MAX_VALUE) "of at least $atLeast" else "from $atLeast to $atMost"
        // As JSON Schema has it, 4.0 is a whole number.
        val number = numberOrNull()?.takeIf { it % 1.0 == 0.0 && it >= atLeast && it <= atMost }
        return number?.toLong() ?: throw wrong("a whole number $expected")
    }

    fun number(atLeast: Double? = null): Double {
        val expected = if (atLeast == null) "a number" else "a number of at least ${plain(atLeast)}"
        return numberOrNull()?.takeIf { atLeast == null || it >= atLeast } ?: throw wrong(expected)
    }

    fun flag(): Boolean = when ((value as? JsonPrimitive)?.takeIf { !it.isString }?.content) {
        "true" -> true
        "false" -> false
        else -> throw wrong("true or false")
    }

    fun fault(message: String) =
        Fault("$CONTRACT_FILE: " + (if (path.isEmpty()) "" else "$path: ") + message)

    private fun wrong(expected: String) = fault("got ${described()}, expected $expected")

    private fun numberOrNull(): Double? =
        (value as? JsonPrimitive)?.takeIf { !it.isString }?.content?.toDoubleOrNull()?.takeIf { it.isFinite() }

    private fun described(): String = when (value) {
        is JsonObject -> "an object"
        is JsonArray -> "a list"
        is JsonNull -> "null"
        is JsonPrimitive -> value.toString().let { if (it.length <= MOST_SHOWN) it else it.take(MOST_SHOWN) + "..." }
    }

    private fun plain(number: Double): String = if (number % 1.0 == 0.0) "${number.toLong()}" else "$number"

    private companion object {
        const val MOST_SHOWN = 200
        val NOT_EMPTY = Regex(".+", RegexOption.DOT_MATCHES_ALL)
    }
}
