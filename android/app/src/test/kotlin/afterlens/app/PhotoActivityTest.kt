package afterlens.app

import afterlens.app.ui.CompareView
import afterlens.app.ui.PhotoActivity
import afterlens.app.ui.PhotoJob
import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.net.Uri
import android.os.Build
import android.provider.MediaStore
import android.view.View
import android.widget.Button
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import java.io.ByteArrayOutputStream
import kotlin.math.abs
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.util.ReflectionHelpers

private const val STORAGE = Manifest.permission.WRITE_EXTERNAL_STORAGE

@RunWith(RobolectricTestRunner::class)
@Config(qualifiers = "w411dp-h731dp-xhdpi")
class PhotoActivityTest {
    private val controller = Robolectric.buildActivity(PhotoActivity::class.java)
    private val activity: PhotoActivity get() = controller.get()
    private val pictures get() = activity.requireViewById<CompareView>(R.id.pictures)
    private val amount get() = activity.requireViewById<SeekBar>(R.id.amount)
    private val status get() = activity.requireViewById<TextView>(R.id.status).text.toString()

    @After
    fun end() {
        controller.close()
    }

    private fun click(id: Int) = activity.requireViewById<Button>(id).performClick()

    private fun isEnabled(id: Int) = activity.requireViewById<Button>(id).isEnabled

    /** As the system's picker answers. */
    private fun pick(photo: Uri?, result: Int = Activity.RESULT_OK) {
        click(R.id.open)
        val asked = shadowOf(activity).nextStartedActivityForResult
        shadowOf(activity).receiveResult(asked.intent, result, Intent().setData(photo))
    }

    private fun waitForPhoto() =
        Device.waitFor("the photo") { activity.requireViewById<View>(R.id.working).visibility == View.GONE }

    private fun pixels(of: Bitmap) = IntArray(of.width * of.height).also {
        of.getPixels(it, 0, of.width, 0, 0, of.width, of.height)
    }

    private fun restored() = PhotoJob.Outcome(Device.photo(), Device.photo(), "photo, 0.5 s")

    /** What a network might have made of the photo, that is far from it. */
    private fun inverted(photo: Bitmap): Bitmap = photo.copy(Bitmap.Config.ARGB_8888, true).apply {
        setPixels(pixels(photo).map { it xor 0xFFFFFF }.toIntArray(), 0, width, 0, 0, width, height)
    }

    private fun drawn(): IntArray {
        pictures.layout(0, 0, 320, 240) // twice the photo's pixels
        return pixels(Bitmap.createBitmap(320, 240, Bitmap.Config.ARGB_8888).also { pictures.draw(Canvas(it)) })
    }

    private fun takePictures(count: Int): List<ByteArrayOutputStream> = List(count) { ByteArrayOutputStream() }.onEachIndexed { at, stream ->
        shadowOf(activity.contentResolver).registerOutputStream(Uri.parse("content://media/external/images/media/${at + 1}"), stream)
    }

    private fun level(pixel: Int, shift: Int) = pixel shr shift and 255

    @Test
    fun `it opens the system's picker, which needs no permission`() {
        controller.setup()
        click(R.id.open)
        val intent = shadowOf(activity).nextStartedActivityForResult.intent
        assertEquals(MediaStore.ACTION_PICK_IMAGES, intent.action)
        assertNull(shadowOf(activity).lastRequestedPermission)
    }

    @Test
    fun `a picker that was left without a choice changes nothing`() {
        controller.setup()
        pick(null, Activity.RESULT_CANCELED)
        assertEquals(activity.getString(R.string.photo_hint), status)
        assertFalse(isEnabled(R.id.save) || isEnabled(R.id.share))
    }

    @Test
    fun `a photo that cannot be read says so`() {
        controller.setup()
        pick(Device.picked("no picture".toByteArray()))
        waitForPhoto()
        assertEquals(activity.getString(R.string.photo_unreadable), status)
    }

    @Test
    fun `the photo stays in sight where its bundle is broken, and nothing can be saved`() {
        Device.push("a", "{")
        controller.setup()
        pick(Device.picked())
        waitForPhoto()
        assertEquals("a cannot be used. model.json: is not valid JSON", status)
        val before = checkNotNull(pictures.before)
        assertArrayEquals("into a network and back", pixels(before), pixels(before.picture().bitmap()))
        assertNull(pictures.after)
        assertFalse(isEnabled(R.id.save))
    }

    @Test
    fun `a photo is restored by the real network, as Python restores it`() {
        Tflite.load()
        val (before, expected) = Device.restoredPhoto()
        Device.pushConverted("udc")
        controller.setup()
        val menu = activity.requireViewById<Spinner>(R.id.bundles)
        menu.setSelection((0 until menu.count).first { menu.getItemAtPosition(it) == "udc" })
        pick(Device.picked(Device.restoredPhotoFile().readBytes()))
        waitForPhoto()
        assertTrue(status, status.startsWith("udc, "))
        assertArrayEquals(pixels(before), pixels(checkNotNull(pictures.before)))
        val far = pixels(checkNotNull(pictures.after)).zip(pixels(expected)).count { (got, wanted) -> !isNear(got, wanted) }
        assertEquals("pixels that are not Python's", 0, far)
        assertTrue(isEnabled(R.id.save) && isEnabled(R.id.share))
    }

    /** Within one level of 255. */
    private fun isNear(one: Int, other: Int) = (0..24 step 8).all { abs((one shr it and 255) - (other shr it and 255)) <= 1 }

    @Test
    fun `the slider says how much of the change is drawn`() {
        controller.setup()
        assertEquals(100, amount.progress)
        val (before, after) = Device.photo() to inverted(Device.photo())
        fun drawnOf(photo: Bitmap) = activity.show(PhotoJob.Outcome(photo, null, "")).let { drawn() }
        val (raw, restored) = drawnOf(before) to drawnOf(after)
        activity.show(PhotoJob.Outcome(before, after, "photo, 0.5 s"))
        pictures.divider = 0f
        assertArrayEquals("all of it", restored, drawn())
        amount.progress = 0
        assertArrayEquals("nothing of it", raw, drawn())
        amount.progress = 25
        assertEquals("Amount 25 %", activity.requireViewById<TextView>(R.id.amount_text).text.toString())
        val quarter = drawn()
        val worst = quarter.indices.maxOf { at ->
            val wanted = { shift: Int -> level(raw[at], shift) * 0.75f + level(restored[at], shift) * 0.25f }
            listOf(0, 8, 16).maxOf { abs(level(quarter[at], it) - wanted(it)) }
        }
        assertTrue("$worst levels", worst <= 1.5f)
        pictures.divider = 1f
        assertArrayEquals("left of the divider", raw, drawn())
    }

    @Test
    fun `the amount outlives the activity, and is that of the live preview`() {
        controller.setup()
        amount.progress = 30
        val before = activity
        controller.recreate()
        assertNotSame(before, activity)
        assertEquals(30, amount.progress)
        assertEquals(0.3f, pictures.amount)
        assertEquals(30, shadowOf(activity).resultIntent.getIntExtra(PhotoActivity.AMOUNT, -1))
        val asked = Intent(Device.app, PhotoActivity::class.java).putExtra(PhotoActivity.AMOUNT, 60)
        Robolectric.buildActivity(PhotoActivity::class.java, asked).use { other ->
            other.setup()
            assertEquals(60, other.get().requireViewById<SeekBar>(R.id.amount).progress)
            assertEquals(0.6f, other.get().requireViewById<CompareView>(R.id.pictures).amount)
        }
    }

    @Test
    @Suppress("DEPRECATION") // the shadow's
    fun `what is saved and shared has the amount of the slider`() {
        controller.setup()
        val (before, after) = Device.photo() to inverted(Device.photo())
        activity.show(PhotoJob.Outcome(before, after, "photo, 0.5 s"))
        shadowOf(activity.contentResolver).setNextDatabaseIdForInserts(1)
        val written = takePictures(4)
        val inserts = shadowOf(activity.contentResolver).insertStatements
        for ((number, percent) in listOf(0, 50, 99, 100).withIndex()) {
            amount.progress = percent
            click(R.id.save)
            Device.waitFor("picture $number") { inserts.size > number && status == activity.getString(R.string.photo_saved) }
            activity.requireViewById<TextView>(R.id.status).text = ""
            click(R.id.share) // the same picture
            Device.idle()
            assertEquals(number + 1, inserts.size)
            val send = shadowOf(activity).nextStartedActivity.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)
            val shared = send?.getParcelableExtra(Intent.EXTRA_STREAM, Uri::class.java)
            assertEquals(Uri.parse("content://media/external/images/media/${number + 1}"), shared)
            val bytes = written[number].toByteArray()
            val found = pixels(checkNotNull(BitmapFactory.decodeByteArray(bytes, 0, bytes.size)))
            val (raw, restored) = pixels(before) to pixels(after)
            val wanted = IntArray(raw.size) { at ->
                listOf(16, 8, 0).fold(255) { pixel, shift ->
                    val (from, to) = level(raw[at], shift) to level(restored[at], shift)
                    pixel shl 8 or Math.floorDiv(from * (100 - percent) + to * percent + 50, 100)
                }
            }
            assertArrayEquals("$percent %", wanted, found)
        }
    }

    @Test
    @Suppress("DEPRECATION") // the shadow's
    fun `Android 9 asks for the storage before the first picture is saved, and not again`() {
        controller.setup()
        activity.show(restored())
        val now = Build.VERSION.SDK_INT
        ReflectionHelpers.setStaticField(Build.VERSION::class.java, "SDK_INT", Build.VERSION_CODES.P)
        try {
            shadowOf(activity.contentResolver).apply {
                setNextDatabaseIdForInserts(1)
                registerOutputStream(Uri.parse("content://media/external/images/media/1"), ByteArrayOutputStream())
            }
            click(R.id.save)
            assertArrayEquals(arrayOf(STORAGE), shadowOf(activity).lastRequestedPermission.requestedPermissions)
            assertEquals(0, shadowOf(activity.contentResolver).insertStatements.size)
            shadowOf(Device.app).grantPermissions(STORAGE)
            activity.onRequestPermissionsResult(0, arrayOf(STORAGE), intArrayOf(PackageManager.PERMISSION_GRANTED))
            Device.waitFor("the photo to be saved") { status == activity.getString(R.string.photo_saved) }
            click(R.id.save)
            Device.idle()
        } finally {
            ReflectionHelpers.setStaticField(Build.VERSION::class.java, "SDK_INT", now)
        }
        val values = shadowOf(activity.contentResolver).insertStatements.single().contentValues
        assertEquals("columns of Android 10", setOf("_display_name", "mime_type"), values.keySet())
        assertEquals(0, shadowOf(activity.contentResolver).updateStatements.size)
    }

    @Test
    @Suppress("DEPRECATION") // the shadow's, which would rather have a content provider of the test's own
    fun `the result goes into the pictures of the device, complete, and is shared from there`() {
        controller.setup()
        activity.show(restored())
        val written = ByteArrayOutputStream()
        val uri = Uri.parse("content://media/external/images/media/1")
        shadowOf(activity.contentResolver).apply {
            setNextDatabaseIdForInserts(1)
            registerOutputStream(uri, written)
        }
        click(R.id.share)
        Device.waitFor("the photo to be saved") { status == activity.getString(R.string.photo_saved) }
        val saved = checkNotNull(BitmapFactory.decodeByteArray(written.toByteArray(), 0, written.size()))
        assertArrayEquals(pixels(Device.photo()), pixels(saved))
        val values = shadowOf(activity.contentResolver).insertStatements.single().contentValues
        assertEquals("Pictures/Afterlens", values.getAsString(MediaStore.Images.Media.RELATIVE_PATH))
        val update = shadowOf(activity.contentResolver).updateStatements.single().contentValues
        assertEquals(0, update.getAsInteger(MediaStore.Images.Media.IS_PENDING))
        val chooser = shadowOf(activity).nextStartedActivity
        val send = chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)
        assertEquals(uri, send?.getParcelableExtra(Intent.EXTRA_STREAM, Uri::class.java))
    }
}
