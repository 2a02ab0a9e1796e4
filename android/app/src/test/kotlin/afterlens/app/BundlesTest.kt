package afterlens.app

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner

@RunWith(RobolectricTestRunner::class)
class BundlesTest {
    private val bundles = Bundles(Device.app)

    @Test
    fun `those inside the app and those that were pushed are listed, broken ones with the reason`() {
        Device.push("mine")
        Device.push("stranger", "{")
        assertEquals(
            listOf("clip 4x2", "mine 4x2", "photo 4x2", "stranger", "tagged 4x2", "version_1 4x2"),
            bundles.choices().map { "$it" },
        )
        val broken = bundles.choices().filterIsInstance<Choice.Broken>().single()
        assertEquals("model.json: is not valid JSON", broken.reason)
        Device.push("photo", "{") // goes before the one inside the app
        assertEquals(listOf("photo", "stranger"), bundles.choices().filterIsInstance<Choice.Broken>().map { it.name })
    }

    @Test
    fun `every file inside the app is checked as it is in a folder`() {
        val inside = bundles.open("photo")
        assertEquals(emptyList<String>(), inside.faults())
        assertNull(AssetFiles(Device.app.assets, "bundles/photo").open("nothing"))
    }
}
