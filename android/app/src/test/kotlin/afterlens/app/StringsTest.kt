package afterlens.app

import java.io.File
import javax.xml.parsers.DocumentBuilderFactory
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.w3c.dom.Element

class StringsTest {
    private fun strings(folder: String): Map<String, String> {
        val file = File("src/main/res/$folder/strings.xml")
        val nodes = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file).getElementsByTagName("string")
        return (0 until nodes.length).map { nodes.item(it) as Element }.associate { it.getAttribute("name") to it.textContent }
    }

    private val english = strings("values")
    private val german = strings("values-de")

    @Test
    fun `every text is there in both languages`() = assertEquals(english.keys, german.keys)

    @Test
    fun `both languages fill in the same values`() {
        val values = Regex("%\\d\\$[.\\d]*[a-z]")
        fun filledIn(text: String) = values.findAll(text).map { it.value }.toSet()
        for ((name, text) in english) assertEquals(name, filledIn(text), filledIn(german.getValue(name)))
    }

    @Test
    fun `all are translated but the app's name and a name with a time`() {
        assertEquals(setOf("app_name", "photo_done"), english.keys.filter { english[it] == german[it] }.toSet())
        assertTrue(english.size > 30)
    }
}
