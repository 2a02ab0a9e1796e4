package afterlens.core

import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.double
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

class StatisticsTest {
    private val vectors = Vectors.json("statistics.json")

    @Test
    fun `summaries are those of the vectors`() {
        for (entry in vectors.entries("summaries")) assertSummary(entry, Summary.of(entry.doubles("samples_ms")))
    }

    @Test
    fun `warm-up runs are not counted`() {
        for (entry in vectors.entries("warm_up")) {
            val found = Summary.of(entry.doubles("times_ms"), entry.int("warmup"))
            assertSummary(entry.getValue("summary").jsonObject, found)
        }
    }

    @Test
    fun `nothing but warm-up is a fault`() {
        val fault = assertThrows<Fault> { Summary.of(listOf(1.0, 2.0), warmup = 2) }
        assertEquals("got 2 times with 2 of them warm-up, expected more", fault.message)
    }

    @Test
    fun `medians by the minute are those of the vectors`() {
        for (entry in vectors.entries("minutes")) {
            val expected = entry.list("medians_ms").map { if (it is JsonNull) null else it.jsonPrimitive.double }
            assertEquals(expected, minuteMedians(entry.doubles("at_ms"), entry.doubles("times_ms")))
        }
    }

    private fun assertSummary(expected: JsonObject, found: Summary) {
        val values = mapOf(
            "p50_ms" to found.p50, "p90_ms" to found.p90, "p99_ms" to found.p99, "mean_ms" to found.mean,
            "min_ms" to found.least,
        )
        for ((name, value) in values) assertEquals(expected.double(name), value, 1e-8, "$name of $expected")
    }
}
