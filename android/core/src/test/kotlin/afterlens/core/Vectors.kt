package afterlens.core

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.double
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive

/** The vectors that Python wrote (docs/vectors.md). */
internal object Vectors {
    val folder = File(System.getProperty("vectors"))

    fun json(name: String): JsonObject = Json.parseToJsonElement(File(folder, name).readText()).jsonObject
}

internal fun JsonObject.list(key: String): JsonArray = getValue(key).jsonArray
internal fun JsonObject.entries(key: String): List<JsonObject> = list(key).map { it.jsonObject }
internal fun JsonObject.text(key: String): String = getValue(key).jsonPrimitive.content
internal fun JsonObject.int(key: String): Int = getValue(key).jsonPrimitive.int
internal fun JsonObject.double(key: String): Double = getValue(key).jsonPrimitive.double
internal fun JsonObject.flag(key: String): Boolean = getValue(key).jsonPrimitive.boolean
internal fun JsonObject.doubles(key: String): List<Double> = list(key).map { it.jsonPrimitive.double }
internal fun JsonObject.size(key: String): Size = doubles(key).let { (width, height) -> Size(width.toInt(), height.toInt()) }
internal fun JsonElement.texts(): Map<String, String> = jsonObject.mapValues { it.value.jsonPrimitive.content }
