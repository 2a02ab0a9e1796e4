package afterlens.core

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.decodeFromJsonElement
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

class BenchmarkTest {
    @Test
    fun `the document is that of the vectors`() {
        val vectors = Vectors.json("bench_expected.json")
        val run = vectors.getValue("run").jsonObject
        val document = BenchmarkDocument(
            created = run.text("created"),
            device = Json.decodeFromJsonElement(run.getValue("device")),
            conditions = BenchmarkDocument.Conditions(
                thermalState = run.list("thermal_state").map { it.jsonPrimitive.content },
                lowPowerMode = run.flag("low_power_mode"),
                powerSource = run.text("power_source"),
            ),
            input = run.text("input"),
            results = run.entries("results").map {
                BenchmarkDocument.Result(
                    id = it.text("id"),
                    runtime = Json.decodeFromJsonElement(it.getValue("runtime")),
                    artifact = Json.decodeFromJsonElement(it.getValue("artifact")),
                    timing = BenchmarkDocument.Timing.of(
                        it.doubles("times_ms"),
                        it.int("warmup"),
                        it.double("init_ms"),
                        it.getValue("peak_rss_bytes").jsonPrimitive.long,
                    ),
                    maxError = it.double("max_error"),
                    selfTest = it.part("self_test")?.let { part -> Json.decodeFromJsonElement(part) },
                    live = it.part("live")?.let(::live),
                    sustained = it.part("sustained")?.let(::sustained),
                )
            },
        )
        assertSame(vectors.getValue("document"), Json.parseToJsonElement(document.json()), "")
    }

    @Test
    fun `every run is timed, the warm-up first`() {
        var now = 0L
        var runs = 0
        val done = mutableListOf<Int>()
        val times = BenchmarkRun(warmup = 2, runs = 3) { now }.times(progress = { done += it; now += 1_000_000_000 }) {
            now += 1_000_000L * ++runs
        }
        assertEquals(listOf(1.0, 2.0, 3.0, 4.0, 5.0), times)
        assertEquals(listOf(1, 2, 3, 4, 5), done)
        assertEquals(4.0, Summary.of(times, warmup = 2).p50)
    }

    @Test
    fun `no runs is a fault`() {
        assertEquals(
            "got 0 warm-ups and 0 runs, expected at least 0 and 1",
            assertThrows<Fault> { BenchmarkRun(0, 0) }.message,
        )
    }

    private fun JsonObject.part(key: String): JsonObject? = getValue(key) as? JsonObject

    private fun live(run: JsonObject) = BenchmarkDocument.Live.of(
        run.double("seconds"), run.doubles("finished_ms"), run.int("dropped").toLong(),
        run.doubles("input_ms"), run.doubles("model_ms"), run.doubles("output_ms"), run.doubles("draw_ms"),
    )

    private fun sustained(run: JsonObject): List<BenchmarkDocument.Minute> {
        val states = run.list("thermal_state").zip(run.list("battery_percent"))
        return BenchmarkDocument.Minute.of(
            run.doubles("at_ms"),
            run.doubles("times_ms"),
            states.map { (thermal, battery) -> thermal.jsonPrimitive.content to battery.jsonPrimitive.int },
        )
    }

    /** The same keys and values; numbers up to rounding. */
    private fun assertSame(expected: JsonElement, got: JsonElement, path: String): Unit = when (expected) {
        is JsonObject -> {
            assertEquals(expected.keys, got.jsonObject.keys, path)
            expected.forEach { (key, value) -> assertSame(value, got.jsonObject.getValue(key), "$path.$key") }
        }
        is JsonArray -> {
            assertEquals(expected.size, (got as JsonArray).size, path)
            expected.forEachIndexed { index, value -> assertSame(value, got[index], "$path[$index]") }
        }
        is JsonPrimitive -> {
            val number = if (expected.isString) null else expected.doubleOrNull
            if (number == null) assertEquals(expected, got, path) else assertEquals(number, got.jsonPrimitive.doubleOrNull!!, 1e-8, path)
        }
    }
}
