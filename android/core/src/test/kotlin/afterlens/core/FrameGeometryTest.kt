package afterlens.core

import kotlinx.serialization.json.JsonObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class FrameGeometryTest {
    private val vectors = Vectors.json("geometry.json")

    @Test
    fun `rotations are those of the vectors`() {
        for (entry in vectors.entries("rotations")) {
            val rotation =
                uprightRotation(entry.int("sensor_orientation"), entry.int("display_rotation"), entry.flag("front"))
            assertEquals(entry.int("rotation"), rotation, "$entry")
        }
    }

    @Test
    fun `matrices are those of the vectors`() {
        for (case in vectors.entries("cases")) {
            val geometry = geometryOf(case)
            assertMatrix(case, "sensor_from_artifact", geometry.sensorFromArtifact)
            assertMatrix(case, "sensor_from_view", geometry.sensorFromView)
            assertMatrix(case, "artifact_from_view", geometry.artifactFromView)
        }
    }

    @Test
    fun `pixels of the view come from those of the vectors`() {
        for (case in vectors.entries("cases")) {
            val geometry = geometryOf(case)
            for (pixel in case.entries("pixels")) {
                val view = case.size("view")
                val (x, y) = pixel.doubles("view")
                for ((frame, map) in listOf("artifact" to geometry.artifactFromView, "sensor" to geometry.sensorFromView)) {
                    val size = case.size(frame)
                    val (across, down) = map.map(x / view.width, y / view.height)
                    val (expectedX, expectedY) = pixel.doubles(frame)
                    assertEquals(expectedX, across * size.width, 1e-4, "$case $pixel")
                    assertEquals(expectedY, down * size.height, 1e-4, "$case $pixel")
                }
            }
        }
    }

    private fun assertMatrix(case: JsonObject, name: String, got: Affine) {
        val expected = case.doubles(name)
        got.columns().forEachIndexed { index, value -> assertEquals(expected[index], value.toDouble(), 1e-6, "$name of $case") }
    }
}

internal fun geometryOf(case: JsonObject) = FrameGeometry(
    sensor = case.size("sensor"),
    rotation = case.int("rotation"),
    mirrored = case.flag("mirrored"),
    artifact = case.size("artifact"),
    upright = case.text("artifact_sees") == "upright",
    artifactScale = Scale.valueOf(case.text("artifact_scale").uppercase()),
    view = case.size("view"),
    viewScale = Scale.valueOf(case.text("view_scale").uppercase()),
)
