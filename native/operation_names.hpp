// The names of the engine's operations, each at the operation's number.
#pragma once

namespace unspool {

constexpr const char* kUnaryNames[] = {
#define UNSPOOL_UNARY(name, ...) #name,
#include "operations.def"
};
constexpr const char* kBinaryNames[] = {
#define UNSPOOL_BINARY(name, ...) #name,
#include "operations.def"
};
constexpr const char* kTernaryNames[] = {
#define UNSPOOL_TERNARY(name, ...) #name,
#include "operations.def"
};
constexpr const char* kReduceNames[] = {
#define UNSPOOL_REDUCE(name, ...) #name,
#include "operations.def"
};

}  // namespace unspool
