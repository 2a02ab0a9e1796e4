package afterlens.app

import afterlens.app.ui.LiveActivity
import afterlens.app.ui.PhotoActivity
import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.hardware.camera2.CameraCharacteristics
import android.os.PowerManager
import android.provider.Settings
import android.view.View
import android.widget.Button
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config

private const val CAMERA = Manifest.permission.CAMERA

/** The whole activity; the camera and OpenGL are Robolectric's, which deliver no frames. */
@RunWith(RobolectricTestRunner::class)
@Config(qualifiers = "w411dp-h731dp-xhdpi")
class LiveActivityTest {
    private val controller = Robolectric.buildActivity(LiveActivity::class.java)
    private val activity: LiveActivity get() = controller.get()
    private val message get() = text(R.id.message_text).takeIf { isShown(R.id.message) }

    @After
    fun end() {
        controller.close()
        Device.waitFor("its threads to end") { Device.ownThreads().isEmpty() }
    }

    private fun text(id: Int) = activity.requireViewById<TextView>(id).text.toString()

    private fun isShown(id: Int) = activity.requireViewById<View>(id).visibility == View.VISIBLE

    private fun click(id: Int) = activity.requireViewById<Button>(id).performClick()

    private fun words(id: Int) = activity.getString(id)

    private fun answer(granted: Int) = activity.onRequestPermissionsResult(1, arrayOf(CAMERA), intArrayOf(granted))

    private fun startWithCamera() {
        Device.allowCamera()
        Device.addCamera("0", CameraCharacteristics.LENS_FACING_BACK)
        controller.setup()
        Device.finishThreads()
    }

    /** Only an open camera can be taken by another app. */
    private fun assertCameraIsOpen() {
        assertNull(message)
        Device.waitFor("the camera to be open, and taken") {
            shadowOf(Device.cameras).triggerDisconnect()
            message == words(R.string.camera_taken)
        }
    }

    @Test
    fun `it asks for the camera once, and says what it is for`() {
        controller.setup()
        assertArrayEquals(arrayOf(CAMERA), shadowOf(activity).lastRequestedPermission.requestedPermissions)
        assertNull("Android's question is on the screen", message)
        shadowOf(activity.packageManager).setShouldShowRequestPermissionRationale(CAMERA, true)
        answer(PackageManager.PERMISSION_DENIED)
        assertEquals(words(R.string.permission_needed), message)
        assertEquals(words(R.string.permission_ask), text(R.id.message_button))
        Device.addCamera("0", CameraCharacteristics.LENS_FACING_BACK)
        Device.allowCamera()
        answer(PackageManager.PERMISSION_GRANTED)
        assertNull(message)
    }

    @Test
    fun `where it may not ask again, the button leads to the settings`() {
        controller.setup()
        shadowOf(activity.packageManager).setShouldShowRequestPermissionRationale(CAMERA, false)
        answer(PackageManager.PERMISSION_DENIED)
        assertEquals(words(R.string.permission_denied), message)
        click(R.id.message_button)
        val settings = shadowOf(activity).nextStartedActivity
        assertEquals(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, settings.action)
        assertEquals("package:dev.afterlens", settings.dataString)
        controller.pause()
        Device.allowCamera()
        Device.addCamera("0", CameraCharacteristics.LENS_FACING_BACK)
        controller.resume()
        assertNull(message)
    }

    @Test
    fun `a device without a camera says so`() {
        Device.allowCamera()
        controller.setup()
        assertEquals(words(R.string.camera_none), message)
        assertFalse(isShown(R.id.lens))
    }

    @Test
    fun `another app takes the camera, and it can be had again`() {
        startWithCamera()
        assertCameraIsOpen()
        click(R.id.message_button)
        assertCameraIsOpen()
    }

    @Test
    fun `the camera is given back when the activity pauses, and taken when it resumes`() {
        startWithCamera()
        controller.pause()
        Device.finishThreads()
        shadowOf(Device.cameras).triggerDisconnect()
        Device.finishThreads()
        assertNull(message)
        controller.resume()
        assertCameraIsOpen()
    }

    @Test
    fun `with two cameras there is a button for the other one`() {
        Device.addCamera("1", CameraCharacteristics.LENS_FACING_FRONT)
        startWithCamera()
        assertTrue(isShown(R.id.lens))
        click(R.id.lens)
        assertCameraIsOpen()
    }

    @Test
    fun `a rotation keeps the activity`() {
        startWithCamera()
        val before = activity
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        Device.finishThreads()
        assertSame(before, activity)
        assertNull(message)
    }

    @Test
    fun `what was chosen outlives the activity`() {
        startWithCamera()
        val list = activity.requireViewById<Spinner>(R.id.bundles)
        list.setSelection((0 until list.count).first { list.getItemAtPosition(it) == "photo 4x2" })
        Device.idle()
        val before = activity
        controller.recreate()
        Device.finishThreads()
        assertNotSame(before, activity)
        assertEquals("photo 4x2", activity.requireViewById<Spinner>(R.id.bundles).selectedItem)
    }

    @Test
    fun `the amount reaches the preview, outlives the activity, and is that of photos`() {
        startWithCamera()
        fun slider() = activity.requireViewById<SeekBar>(R.id.amount)
        assertEquals(1f, activity.lens?.amount)
        assertEquals("Amount 100 %", text(R.id.amount_text))
        assertEquals(words(R.string.amount_description), slider().contentDescription)
        slider().progress = 40
        assertEquals(0.4f, activity.lens?.amount)
        assertEquals("Amount 40 %", text(R.id.amount_text))
        controller.pause().stop()
        controller.restart().resume()
        assertEquals("another LiveLens", 0.4f, activity.lens?.amount)
        val before = activity
        controller.recreate()
        Device.finishThreads()
        assertNotSame(before, activity)
        assertEquals(40, slider().progress)
        assertEquals(0.4f, activity.lens?.amount)
        click(R.id.photo)
        val asked = shadowOf(activity).nextStartedActivityForResult
        assertEquals(40, asked.intent.getIntExtra(PhotoActivity.AMOUNT, -1))
        shadowOf(activity).receiveResult(asked.intent, Activity.RESULT_OK, Intent().putExtra(PhotoActivity.AMOUNT, 70))
        assertEquals(70, slider().progress)
        assertEquals(0.7f, activity.lens?.amount)
    }

    @Test
    fun `it starts and stops without leaving a thread behind`() {
        startWithCamera()
        repeat(20) {
            controller.pause().stop()
            controller.restart().resume()
        }
    }

    @Test
    fun `the network rests while the device is too hot`() {
        startWithCamera()
        val power = shadowOf(activity.service<PowerManager>())
        power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
        Device.waitFor("the network to rest") { text(R.id.status) == words(R.string.too_hot) }
        power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_LIGHT)
        Device.waitFor("the network to go on") { text(R.id.status) != words(R.string.too_hot) }
    }

    @Test
    fun `a broken bundle says in one line why`() {
        Device.push("another", "{}")
        startWithCamera()
        assertEquals("another cannot be used. model.json: schema_version is missing", text(R.id.status))
        assertNull(message)
    }

    @Test
    fun `photos are restored elsewhere, with the same bundle`() {
        startWithCamera()
        click(R.id.photo)
        val started = shadowOf(activity).nextStartedActivity
        assertEquals(PhotoActivity::class.java.name, started.component?.className)
        assertEquals("clip", started.getStringExtra(PhotoActivity.BUNDLE))
    }
}
