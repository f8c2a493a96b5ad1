// SPDX-License-Identifier: MIT
/// REPQUANT_TEST_SANITIZED: defined where the address sanitizer slows all down and a part shows it the same.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define REPQUANT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REPQUANT_TEST_SANITIZED 1
#endif
#endif
