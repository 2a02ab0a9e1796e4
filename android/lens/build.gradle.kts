plugins {
    id("com.android.library")
    kotlin("android")
}

android {
    namespace = "afterlens.lens"
    compileSdk = 36
    defaultConfig { minSdk = 28 }
    sourceSets["main"].java.srcDir("src/main/kotlin")
    // Its tests run Android's runtime on a desktop (lens/pom.xml), which Gradle knows nothing of.
    sourceSets["test"].java.setSrcDirs(emptyList<String>())
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    api(project(":core"))
    // The classes of org.tensorflow:tensorflow-lite 2.16.1, with libraries for pages of 16 KB.
    api("com.google.ai.edge.litert:litert:1.4.2")
    implementation("com.google.ai.edge.litert:litert-gpu:1.4.2")
}
