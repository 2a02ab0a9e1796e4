package afterlens.app

import afterlens.app.ui.CompareView
import afterlens.app.ui.DividerView
import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.os.Looper
import android.os.SystemClock
import android.view.MotionEvent
import android.view.ViewConfiguration
import android.view.accessibility.AccessibilityNodeInfo
import java.time.Duration
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf

@RunWith(RobolectricTestRunner::class)
class DividerViewTest {
    private val told = mutableListOf<Float>()
    private val divider = DividerView(Device.app, null)

    @Before
    fun attach() {
        Robolectric.buildActivity(Activity::class.java).setup().get().setContentView(divider)
        Device.idle()
        divider.layout(0, 0, WIDTH, 1000)
        divider.onMoved = { told += it }
    }

    private fun touch(action: Int, x: Float) {
        val now = SystemClock.uptimeMillis()
        divider.dispatchTouchEvent(MotionEvent.obtain(now, now, action, x, 500f, 0))
    }

    @Test
    fun `a finger moves it, and no further than the edge`() {
        touch(MotionEvent.ACTION_DOWN, 500f)
        touch(MotionEvent.ACTION_MOVE, 700f)
        touch(MotionEvent.ACTION_MOVE, 1300f)
        touch(MotionEvent.ACTION_UP, 1300f)
        assertEquals(listOf(0.7f, 1f), told)
        assertEquals(1f, divider.place)
    }

    @Test
    fun `holding the picture shows it unrestored until the finger is lifted`() {
        touch(MotionEvent.ACTION_DOWN, 100f)
        shadowOf(Looper.getMainLooper()).idleFor(Duration.ofMillis(ViewConfiguration.getLongPressTimeout() + 10L))
        assertEquals(listOf(1f), told)
        touch(MotionEvent.ACTION_UP, 100f)
        assertEquals(listOf(1f, 0.5f), told)
    }

    @Test
    fun `a short touch beside it changes nothing`() {
        touch(MotionEvent.ACTION_DOWN, 100f)
        touch(MotionEvent.ACTION_UP, 100f)
        shadowOf(Looper.getMainLooper()).idleFor(Duration.ofSeconds(2))
        assertTrue("$told", told.isEmpty())
    }

    @Test
    fun `a screen reader moves it`() {
        divider.performAccessibilityAction(AccessibilityNodeInfo.ACTION_SCROLL_FORWARD, null)
        assertEquals(0.6f, divider.place, 1e-6f)
        divider.performAccessibilityAction(AccessibilityNodeInfo.ACTION_SCROLL_BACKWARD, null)
        assertEquals(0.5f, divider.place, 1e-6f)
    }

    @Test
    fun `the photo is left of it, what was made of it right of it, both in proportion`() {
        val view = CompareView(Device.app, null).apply {
            layout(0, 0, 400, 400)
            before = filled(Color.RED)
            after = filled(Color.GREEN)
            divider = 0.25f
        }
        val screen = Bitmap.createBitmap(400, 400, Bitmap.Config.ARGB_8888).also { view.draw(Canvas(it)) }
        val places = listOf(50 to 200, 98 to 200, 102 to 200, 350 to 200, 200 to 90, 200 to 110)
        val found = places.map { (x, y) -> screen.getPixel(x, y) }
        assertEquals(listOf(Color.RED, Color.RED, Color.GREEN, Color.GREEN, Color.TRANSPARENT, Color.GREEN), found)
    }

    private fun filled(color: Int) = Bitmap.createBitmap(200, 100, Bitmap.Config.ARGB_8888).apply { eraseColor(color) }

    private companion object {
        const val WIDTH = 1000
    }
}
